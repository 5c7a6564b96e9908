"""Adversarial feature alignment (AFAT, published as RSPC, CVPR 2023)."""
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from mmengine.utils import apply_to
from torch import Tensor, nn

from mmrobust.models.image_range import image_range
from mmrobust.models.layers import ClassAttentionBlock

from .drop_path import match_drop_paths
from .patch_corruption import LossScale


class _ReverseGradient(torch.autograd.Function):
    """The identity, which turns descent into ``scale`` times ascent for everything before it."""

    @staticmethod
    def forward(ctx, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return -ctx.scale * grad, None


def batch_half(features: Any, half: int) -> Any:
    """First (0) or second (1) half of every tensor (2B, ...) in nested tuples, lists and dicts."""
    return apply_to(features, lambda x: isinstance(x, Tensor), lambda x: x.chunk(2)[half])


class JointPass:
    """One pass of corrupted and clean images together, and what it leaves behind.

    Args:
        corrupted (Tensor): The corrupted images (B, 3, H, W).
        loss_scale (LossScale): Of the loss that the corruption model learns from.
        ascend (bool): Whether the corruption model ascends on whatever the model descends on.
            Otherwise it learns from :meth:`ascent` alone.
        gradient_scale (float): Factor of the corruption model's gradient.

    Attributes:
        tokens (list[Tensor]): Output (2B, N, C) of every aligned block, in depth order.
    """

    # keeps the gradient at the images within float16; divided out again
    SCALE = 2. ** 10

    def __init__(self, corrupted: Tensor, loss_scale: LossScale, ascend: bool,
                 gradient_scale: float):
        self._source = corrupted
        self.loss_scale = loss_scale
        self.gradient_scale = gradient_scale
        self.corrupted = (_ReverseGradient.apply(corrupted, gradient_scale) if ascend
                          else corrupted.detach().requires_grad_())
        self.tokens: list[Tensor] = []
        self._features: Any = None
        self._half = 1

    def keep(self, block: nn.Module, args: tuple, output: Tensor) -> None:
        """Forward hook; it computes nothing, since checkpointing would not see it again."""
        self.tokens.append(output)

    def features(self, extract_feat, images: Tensor, *args: Any, **kwargs: Any) -> Any:
        """What ``extract_feat`` gives for the clean images, computed with the corrupted ones."""
        if self._features is None:
            self._features = extract_feat(torch.cat([self.corrupted, images]), *args, **kwargs)
        return batch_half(self._features, self._half)

    @contextmanager
    def showing_corrupted(self) -> Iterator[None]:
        """Let :meth:`features` return those of the corrupted images instead."""
        self._half = 0
        try:
            yield
        finally:
            self._half = 1

    def ascent(self, objective: Tensor) -> Tensor:
        """A loss of value 0 that lets the corruption model, and nothing else, raise a scalar."""
        gradient, = torch.autograd.grad(objective * self.SCALE, self.corrupted, retain_graph=True)
        loss = -(self._source * (gradient * (self.gradient_scale / self.SCALE))).sum()
        return self.loss_scale.observe(loss - loss.detach())


@MODELS.register_module(force=True)
class AdversarialFeatureAlignment(nn.Module):
    r"""Keeps the tokens of an image in place while an adversary corrupts patches of it.

    A corruption model picks the patches; the backbone sees corrupted and clean images in one
    batch; the loss is the distance between their tokens after every token-mixing block
    ("Improving Robustness of Vision Transformers by Reducing Sensitivity To Patch Corruptions",
    CVPR 2023, section 3). The heads see the clean images only. The backbone descends on the
    distance and, its gradient reversed, the corruption model ascends in the same backward; give
    it an optimizer of its own with ``AdversarialOptimWrapperConstructor``.

    Args:
        corruption (dict): Config of a :class:`PatchCorruptionModel` or
            :class:`RandomPatchCorruption`. Defaults to the former.
        loss_weight (float): The paper's lambda. Defaults to 5e-3.
        norm (str): Distance of a block: ``'mse'``, as in the authors' code, averages the squared
            differences over all elements, and their sum over L blocks is divided by L + 1e-4;
            ``'squared_norm'``, as in the paper, sums them per image and averages over images
            and blocks. Defaults to ``'mse'``.
        adversary (str): What the corruption model maximises: ``'alignment'`` (the whole training
            loss, which it reaches through the alignment), or ``'cross_entropy'``, the host's
            loss on the corrupted images (table 6 of the paper; one more backward).
            Defaults to ``'alignment'``.
        gradient_scale (float): The corruption model's gradients are multiplied by this, and only
            then clipped (each score's to 1, the whole to the norm that its optimizer allows).
            The authors never undid the loss scale of mixed precision, which starts at 65536: in
            effect nearly every gradient was clipped, which lets a rate of 1e-4 move the model. 1
            keeps how much each patch matters and asks for a rate some thousand times as large.
            Neither depends on mixed precision. Defaults to 65536.
        matched_drop_path (bool): Draw stochastic depth once for an image and its corrupted
            twin. The authors draw independently. Defaults to False.
        blocks (str, optional): Regular expression that the names of the aligned modules, within
            the backbone, match entirely. By default every module with a self-attention named
            ``attn``.

    Raises:
        ValueError: On a negative weight or scale, or an unknown norm or adversary.
    """

    def __init__(self, corruption: dict | None = None, loss_weight: float = 5e-3,
                 norm: str = 'mse', adversary: str = 'alignment',
                 gradient_scale: float = 65536., matched_drop_path: bool = False,
                 blocks: str | None = None):
        super().__init__()
        if loss_weight < 0:
            raise ValueError(f'loss_weight={loss_weight} would drive the features apart: use a '
                             'weight >= 0; the paper uses 5e-3')
        if gradient_scale <= 0:
            raise ValueError(f'gradient_scale={gradient_scale}: the corruption model learns by a '
                             'positive multiple of its gradient')
        if norm not in ('mse', 'squared_norm'):
            raise ValueError(f"norm='{norm}': choose 'mse' or 'squared_norm'")
        if adversary not in ('alignment', 'cross_entropy'):
            raise ValueError(f"adversary='{adversary}': choose 'alignment' or 'cross_entropy'")
        self.corruption = MODELS.build(corruption or dict(type='PatchCorruptionModel'))
        self.loss_weight = loss_weight
        self.norm = norm
        self.adversary = adversary
        self.gradient_scale = gradient_scale
        self.matched_drop_path = matched_drop_path
        self.blocks = blocks

    def prepare(self, backbone: nn.Module) -> None:
        """Check that there is something to align, and match the drop paths if wanted.

        Raises:
            ValueError: If the backbone has no block to align.
        """
        self.aligned_blocks(backbone)
        if self.matched_drop_path:
            match_drop_paths(backbone)

    def aligned_blocks(self, backbone: nn.Module) -> list[nn.Module]:
        """The modules whose outputs are aligned, in depth order.

        Raises:
            ValueError: If there is none.
        """
        if self.blocks is not None:
            found = [m for name, m in backbone.named_modules() if re.fullmatch(self.blocks, name)]
            if not found:
                raise ValueError(f"blocks='{self.blocks}' matches no module of "
                                 f'{type(backbone).__name__}')
            return found
        found: list[nn.Module] = []
        inside: tuple[str, ...] = ()  # some hosts wrap an attn in an attn
        for name, module in backbone.named_modules():
            if ('attn' in module._modules and not isinstance(module, ClassAttentionBlock)
                    and not name.startswith(inside)):
                found.append(module)
                inside += (f'{name}.',)
        if not found:
            raise ValueError(
                f'{type(backbone).__name__} has no block with a self-attention to align: use a '
                'vision transformer, or name the modules to align by a regular expression, such '
                "as blocks=r'layer\\d\\.\\d'")
        return found

    @contextmanager
    def joint_pass(self, model: nn.Module, images: Tensor) -> Iterator[JointPass]:
        """Corrupt images and collect what the blocks of the model make of both.

        Args:
            model (nn.Module): Model with ``backbone`` and ``data_preprocessor``.
            images (Tensor): Clean normalised images (B, 3, H, W).
        """
        loss_scale = LossScale()
        corrupted = self.corruption(images, *image_range(model.data_preprocessor), loss_scale)
        joint = JointPass(corrupted, loss_scale, self.adversary == 'alignment',
                          self.gradient_scale)
        with ExitStack() as stack:
            for block in self.aligned_blocks(model.backbone):
                stack.callback(block.register_forward_hook(joint.keep).remove)
            yield joint

    def forward(self, joint: JointPass) -> Tensor:
        """The weighted distance between the tokens of a pass, a scalar in float32."""
        loss = self.loss_weight * self.distance(joint.tokens)
        return loss if self.adversary == 'cross_entropy' else joint.loss_scale.observe(loss)

    def distance(self, tokens: list[Tensor]) -> Tensor:
        """Distance between the halves of each (2B, N, C)."""
        pairs = [t.float().chunk(2) for t in tokens]
        if self.norm == 'mse':
            return sum(F.mse_loss(*pair) for pair in pairs) / (len(pairs) + 1e-4)
        return sum(F.mse_loss(*pair, reduction='sum') / len(pair[0])
                   for pair in pairs) / len(pairs)
