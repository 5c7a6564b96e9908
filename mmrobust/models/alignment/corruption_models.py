"""Which patches of an image are corrupted, and with what (AFAT / RSPC, CVPR 2023, section 3.2)."""
import math

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn


class LossScale:
    """By what a loss is multiplied before its backward: mixed precision's scale, accumulation.

    What clips a gradient in the middle of the graph needs to know. The factor is learned during
    backward, from the gradient that arrives at the loss, before it is needed further down.
    """

    def __init__(self):
        self.factor: Tensor | float = 1.

    def observe(self, loss: Tensor) -> Tensor:
        """The same loss, whose backward sets the factor."""
        return _Observe.apply(loss, self)


class _Observe(torch.autograd.Function):

    @staticmethod
    def forward(ctx, loss: Tensor, scale: LossScale) -> Tensor:
        ctx.scale = scale
        return loss.view_as(loss)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        ctx.scale.factor = grad
        return grad, None


class _StraightThrough(torch.autograd.Function):
    """0/1 mask of the scores above a threshold; its gradient, clipped to 1, is the scores'."""

    @staticmethod
    def forward(ctx, scores: Tensor, threshold: Tensor, scale: LossScale) -> Tensor:
        ctx.scale = scale
        return (scores > threshold).to(scores.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        bound = torch.as_tensor(ctx.scale.factor, dtype=grad.dtype, device=grad.device)
        return grad.clamp(-bound, bound), None, None


class PatchCorruption(nn.Module):
    """Corrupts the patches of lowest score; subclasses say what the scores are.

    Args:
        ratio (float): Share of the patches to corrupt; 0 corrupts none. Defaults to 0.1.
        patch_size (int): Side of a patch in pixels. Defaults to 16.
        fill (str): ``'noise'`` puts uniform noise of [0, 1) in normalised space there;
            ``'drop'`` the mean colour, 0 in normalised space, which takes the content away
            without adding any. Defaults to ``'noise'``.

    Raises:
        ValueError: If the ratio is outside [0, 1), or the fill or patch size is invalid.
    """

    def __init__(self, ratio: float = 0.1, patch_size: int = 16, fill: str = 'noise'):
        super().__init__()
        if not isinstance(ratio, (int, float)) or not 0. <= ratio < 1.:
            raise ValueError(f'ratio={ratio} is outside [0, 1): it is the share of the patches to '
                             'corrupt, 0 for none; the paper uses 0.1')
        if patch_size < 1:
            raise ValueError(f'patch_size={patch_size}: a patch has at least 1 pixel')
        if fill not in ('noise', 'drop'):
            raise ValueError(f"fill='{fill}': choose 'noise' or 'drop'")
        self.ratio = ratio
        self.patch_size = patch_size
        self.fill = fill

    def scores(self, images: Tensor) -> Tensor:
        """Score (B, rows, columns) of each patch of images (B, 3, H, W)."""
        raise NotImplementedError

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Rows and columns of patches in images (B, 3, H, W).

        Raises:
            ValueError: If the patches do not tile the images.
        """
        height, width = images.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f'an image of {height} x {width} pixels is not a multiple of the patch of '
                f'{self.patch_size} x {self.patch_size}: change the crop size of the pipeline '
                'or patch_size')
        return height // self.patch_size, width // self.patch_size

    def keep(self, scores: Tensor, loss_scale: LossScale | None = None) -> Tensor:
        """Mask (B, rows, columns), 0 for the ``ratio`` of the patches with the lowest scores.

        Patches that tie with the threshold are corrupted. The gradient of the mask is handed on
        to the scores, clipped to 1 in units of ``loss_scale``.
        """
        flat = scores.flatten(1).float()
        if self.ratio > 0:
            threshold = torch.quantile(flat.detach(), self.ratio, dim=1, keepdim=True)
        else:  # the quantile would be the lowest score, and corrupt that patch
            threshold = torch.full_like(flat[:, :1], -math.inf)
        return _StraightThrough.apply(
            flat, threshold, loss_scale or LossScale()).view_as(scores)

    def occlude(self, images: Tensor, keep: Tensor, low: Tensor, high: Tensor,
                noise: Tensor | None = None) -> Tensor:
        """Replace what ``keep`` does not keep, within the valid range of normalised images.

        Args:
            images (Tensor): Normalised images (B, 3, H, W).
            keep (Tensor): Mask (B, rows, columns) of 0 and 1.
            low, high (Tensor): Valid range, broadcastable to the images.
            noise (Tensor, optional): (B, 3, H, W). By default drawn as ``fill`` says.
        """
        if noise is None:
            noise = torch.rand_like(images) if self.fill == 'noise' else torch.zeros_like(images)
        size = self.patch_size
        mask = keep.repeat_interleave(size, 1).repeat_interleave(size, 2)[:, None]  # (B, 1, H, W)
        return (images * mask + noise * (1 - mask)).clamp(low.to(images), high.to(images))

    def forward(self, images: Tensor, low: Tensor, high: Tensor,
                loss_scale: LossScale | None = None) -> Tensor:
        """Corrupted copies of normalised images (B, 3, H, W) whose valid range is low to high."""
        return self.occlude(images, self.keep(self.scores(images), loss_scale), low, high)

    def extra_repr(self) -> str:
        return f'ratio={self.ratio}, patch_size={self.patch_size}, fill={self.fill}'


@MODELS.register_module(force=True)
class PatchCorruptionModel(PatchCorruption):
    """Learns which patches hurt most: a patch convolution, GELU and a fully connected layer.

    The layer connects all patches of the grid that the model is made for. Another grid is
    averaged to that size and the scores are interpolated back, so that any image that is a
    multiple of the patch is accepted; on its own grid nothing is resized. A grid far from the
    one at hand blurs the choice: set ``grid`` to that of the training crop where memory allows
    (the layer has (rows x columns)^2 weights).

    Args:
        grid (int | tuple[int, int]): Rows and columns of patches. Defaults to 14, images of
            224 x 224.
        in_channels (int): Channels of the image. Defaults to 3.
        **kwargs: See :class:`PatchCorruption`.
    """

    def __init__(self, grid: int | tuple[int, int] = 14, in_channels: int = 3, **kwargs):
        super().__init__(**kwargs)
        self.own_grid = (grid, grid) if isinstance(grid, int) else tuple(grid)
        patches = self.own_grid[0] * self.own_grid[1]
        self.patch_embed = nn.Conv2d(in_channels, 1, self.patch_size, self.patch_size, bias=False)
        self.fc = nn.Linear(patches, patches, bias=False)

    def scores(self, images: Tensor) -> Tensor:
        # in float32: the clipped gradients of the scores do not fit into float16 with a loss scale
        with torch.autocast(images.device.type, enabled=False):
            return self._scores(images.float())

    def _scores(self, images: Tensor) -> Tensor:
        grid = self.grid(images)
        x = F.gelu(self.patch_embed(images))  # (B, 1, rows, columns)
        if grid == self.own_grid:
            return self.fc(x.flatten(1)).unflatten(1, grid)
        x = self.fc(F.adaptive_avg_pool2d(x, self.own_grid).flatten(1)).unflatten(1, self.own_grid)
        return F.interpolate(x[:, None], grid, mode='bilinear', align_corners=False)[:, 0]


@MODELS.register_module(force=True)
class RandomPatchCorruption(PatchCorruption):
    """The baseline: patches at random.

    Args:
        **kwargs: See :class:`PatchCorruption`.
    """

    def scores(self, images: Tensor) -> Tensor:
        return torch.rand(len(images), *self.grid(images), device=images.device)
