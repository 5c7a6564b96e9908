"""Patch-wise augmentation of the "plus" models of "Towards Robust Vision Transformer"."""
import torch
import torch.nn.functional as F  # noqa: N812
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmrobust.models.image_range import image_range


def augment_patches(images: Tensor,
                    patch_size: int = 16,
                    prob: float = 0.1,
                    scale: tuple[float, float] = (0.85, 1.0),
                    noise_std: float = 0.01) -> Tensor:
    """Resize-crop, flip and add noise to patches of images, each with its own draw.

    Every patch is, with probability ``prob`` each and independently, cropped to a square of
    ``scale`` of its area and enlarged again (bilinear), mirrored, and given Gaussian noise.

    Args:
        images (Tensor): (B, C, H, W); H and W are multiples of ``patch_size``.

    Raises:
        ValueError: If they are not.
    """
    b, c, h, w = images.shape
    if h % patch_size or w % patch_size:
        raise ValueError(f'patches of {patch_size} pixels do not tile an image of {h} x {w}: '
                         f'choose a patch_size that divides both.')
    rows, columns = h // patch_size, w // patch_size
    # (B, C, H, W) -> (B * rows * columns, C, p, p)
    patches = images.reshape(b, c, rows, patch_size, columns, patch_size)
    patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(0, 2).clone()

    # crop and mirror are one affine map per patch: x -> side * mirror * x + shift
    crop, mirror, noisy = torch.rand(3, len(patches), device=images.device) < prob
    side = torch.empty(len(patches), device=images.device).uniform_(*scale).sqrt()
    side = torch.where(crop, side, 1.0)
    shift = (1 - side) * torch.empty(2, len(patches), device=images.device).uniform_(-1, 1)
    theta = images.new_zeros(len(patches), 2, 3)
    theta[:, 0, 0] = torch.where(mirror, -side, side)
    theta[:, 1, 1] = side
    theta[:, :, 2] = shift.T
    moved = crop | mirror
    if moved.any():
        grid = F.affine_grid(theta[moved], patches[moved].shape, align_corners=False)
        patches[moved] = F.grid_sample(
            patches[moved], grid, padding_mode='border', align_corners=False)
    patches[noisy] += noise_std * torch.randn_like(patches[noisy])

    # (B * rows * columns, C, p, p) -> (B, C, H, W)
    patches = patches.unflatten(0, (b, rows, columns))
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(b, c, h, w)


@MODELS.register_module(force=True)
class PatchAugmentation(nn.Module):
    """Patch-wise augmentation of a normalised batch, kept within the range of images.

    Mao et al., "Towards Robust Vision Transformer", CVPR 2022, section 3.3.

    Args:
        patch_size (int): Side of a patch in pixels.
        prob (float): Probability of each of the three changes.
    """

    def __init__(self, patch_size: int = 16, prob: float = 0.1) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.prob = prob
        self.register_buffer('low', torch.tensor(-torch.inf), persistent=False)
        self.register_buffer('high', torch.tensor(torch.inf), persistent=False)

    def prepare(self, preprocessor: nn.Module) -> None:
        """Take the range of images from the model's data preprocessor."""
        low, high = image_range(preprocessor)
        self.low, self.high = low.clone(), high.clone()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Augment a batch (B, C, H, W)."""
        images = augment_patches(images, self.patch_size, self.prob)
        return images.clamp(self.low.to(images), self.high.to(images))
