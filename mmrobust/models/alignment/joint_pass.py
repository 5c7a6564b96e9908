"""One pass of corrupted and clean images, and the way back to whoever corrupted them."""
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch._functorch.config as functorch_config
from mmengine.utils import apply_to
from torch import Tensor, nn

from .corruption_models import LossScale


class _ReverseGradient(torch.autograd.Function):
    """The identity, which turns descent into ``scale`` times ascent for everything before it."""

    @staticmethod
    def forward(ctx, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return -ctx.scale * grad, None


class _SendGradient(torch.autograd.Function):
    """A loss of 0 whose backward hands a tensor the gradient that it is given here."""

    @staticmethod
    def forward(ctx, x: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return gradient.new_zeros(())

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        gradient, = ctx.saved_tensors
        return grad * gradient, None


def batch_half(features: Any, half: int) -> Any:
    """First (0) or second (1) half of every tensor (2B, ...) in nested tuples, lists and dicts."""
    return apply_to(features, lambda x: isinstance(x, Tensor), lambda x: x.chunk(2)[half])


def couples_images(model: nn.Module) -> bool:
    """Whether the features of an image depend on the rest of the batch, by batch statistics.

    Heads do not count: they see the clean images only.
    """
    return any(
        module.training or module.running_mean is None
        for name, part in model.named_children() if 'head' not in name
        for module in part.modules() if hasattr(module, 'running_mean'))


def allow_second_backward() -> None:
    """Let graphs that torch.compile makes from now on go backward twice.

    Since torch 2.5 they reuse the memory of what they saved unless this flag is unset.
    """
    if hasattr(functorch_config, 'donated_buffer'):
        functorch_config.donated_buffer = False


class JointPass:
    """One pass of corrupted and clean images together, and what it leaves behind.

    Args:
        corrupted (Tensor): The corrupted images (B, 3, H, W).
        loss_scale (LossScale): Of the loss that the corruption model learns from.
        reverse (bool): Whether the corruption model ascends on whatever the model descends on.
            Otherwise it learns from :meth:`ascent` alone.
        gradient_scale (float): Factor of the corruption model's gradient.

    Attributes:
        learns (bool): Whether a corruption model wants to learn from this pass.
        reverse (bool): See above.
        tokens (list[Tensor]): Output (2B, N, C) of every aligned block, in depth order.
    """

    def __init__(self, corrupted: Tensor, loss_scale: LossScale, reverse: bool,
                 gradient_scale: float):
        self._source = corrupted
        self.loss_scale = loss_scale
        self.gradient_scale = gradient_scale
        self.learns = corrupted.requires_grad
        self.reverse = reverse
        if self.learns:
            corrupted = (_ReverseGradient.apply(corrupted, gradient_scale) if reverse
                         else corrupted.detach().requires_grad_())
        self.corrupted = corrupted
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

    @staticmethod
    def of_clean_images(notes: Any) -> Any:
        """The clean half of what was noted during the pass."""
        return batch_half(notes, 1)

    @contextmanager
    def showing_corrupted(self) -> Iterator[None]:
        """Let :meth:`features` return those of the corrupted images instead."""
        self._half = 0
        try:
            yield
        finally:
            self._half = 1

    def ascent(self, objective: Tensor, unit: float) -> Tensor:
        """A loss of value 0 that lets the corruption model, and nothing else, raise a scalar.

        It takes one backward of its own, down to the corrupted images and past all weights.

        Args:
            objective (Tensor): The scalar.
            unit (float): Factor that brings its gradients to the order of 1 on the way, in the
                middle of what float16 can hold; it is divided out again.

        Raises:
            ValueError: If the model cannot go backward twice.
        """
        # as outside of autocast, where a backward belongs
        with torch.autocast(self.corrupted.device.type, enabled=False):
            gradient = self._gradient(objective * unit)
        gradient = gradient * (-self.gradient_scale / unit)
        return self.loss_scale.observe(_SendGradient.apply(self._source, gradient))

    def _gradient(self, objective: Tensor) -> Tensor:
        try:
            return torch.autograd.grad(objective, self.corrupted, retain_graph=True)[0]
        except RuntimeError as error:
            if 'checkpoint' not in str(error).lower():  # each torch has other words
                raise
            raise ValueError(
                'the corruption model needs a gradient of its own, which this backbone\'s '
                'activation checkpointing cannot give: set model.backbone.with_cp=False, use a '
                "backbone of mmrobust, or set model.alignment.objective='total'") from None
