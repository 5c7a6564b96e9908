"""Depthwise convolution whose weight gradient is fast on the CPU for wide kernels too."""
import torch
import torch.nn.functional as F
from torch import Tensor

from .backend import autocast_dtype, is_recorded

WIDTH = 3  # columns of the kernel up to which oneDNN has a depthwise weight gradient


class _DepthwiseConv2d(torch.autograd.Function):

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return _conv(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        grad_x = grad_weight = None
        rows, columns = (size // 2 for size in weight.shape[2:])
        if ctx.needs_input_grad[0]:
            grad_x = _gradient(grad, x, weight, (rows, columns), wanted=0)
        if ctx.needs_input_grad[1]:
            padded = F.pad(x, (columns, columns))
            grad_weight = torch.cat([
                _gradient(grad, padded[..., i:i + x.shape[3] + part.shape[3] - 1], part,
                          (rows, 0), wanted=1)
                for i, part in zip(range(0, weight.shape[3], WIDTH), weight.split(WIDTH, dim=3),
                                   strict=True)], dim=3)
        return grad_x, grad_weight, grad.sum((0, 2, 3))


def depthwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``F.conv2d`` of each channel by itself, stride 1, zero-padded to the same size.

    oneDNN has a depthwise kernel for the weight gradient of at most three columns, and a general
    one for more, which takes three to four times as long for 7 x 7 as the gradients of three
    columns at a time that are computed here. Follows autocast.

    Args:
        x: Map (B, C, H, W).
        weight: (C, 1, h, w), both sizes odd.
        bias: (C,).

    Returns:
        Map (B, C, H, W).
    """
    if x.device.type != 'cpu' or is_recorded():
        return _conv(x, weight, bias)
    tensors = x, weight, bias
    if (dtype := autocast_dtype('cpu')) is not None:
        tensors = [t.to(dtype) for t in tensors]
    with torch.autocast('cpu', enabled=False):
        return _DepthwiseConv2d.apply(*tensors)


def _conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.conv2d(x, weight, bias, padding=[size // 2 for size in weight.shape[2:]],
                    groups=len(weight))


def _gradient(grad: Tensor, x: Tensor, weight: Tensor, padding: tuple[int, int], wanted: int
              ) -> Tensor:
    """Gradient of the input (``wanted`` = 0) or of the weight (1)."""
    mask = [wanted == 0, wanted == 1, False]
    return torch.ops.aten.convolution_backward(
        grad, x, weight, None, (1, 1), padding, (1, 1), False, (0, 0), len(weight), mask)[wanted]
