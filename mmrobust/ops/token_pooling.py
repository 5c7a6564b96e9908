"""Token-aware average pooling: a weighted sum of dilated 3x3 means."""
import torch
import torch.nn.functional as F
from torch import Tensor

from .backend import is_recorded, statistics_dtype, triton_module

GROUP_ENTRIES = 2**20  # images are pooled in groups of about this size, to stay in the cache


class _TokenAwareAvgPool(torch.autograd.Function):

    @staticmethod
    def forward(ctx, x, weights):
        ctx.save_for_backward(x, weights)
        kernels = triton_module('triton_pooling', x)
        return kernels.forward(x, weights) if kernels else _forward(x, weights)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        x, weights = ctx.saved_tensors
        kernels = triton_module('triton_pooling', x)
        return (kernels.backward if kernels else _backward)(x, weights, grad)


def token_aware_avg_pool(x: Tensor, weights: Tensor) -> Tensor:
    r"""Mean over neighbourhoods whose size every token weights for itself.

    :math:`\sum_k w_k P_k(x)` with :math:`P_0` the identity and :math:`P_k` the 3x3 mean with
    dilation and zero padding k, always divided by 9 (Guo et al., ICCV 2023, Sec. 3.2). Keeps only
    its inputs for backward, and their memory format; channels-last is the fast one.

    Args:
        x: Features (B, C, H, W).
        weights: Weight of each of the K branches at each position (B, K, H, W), K >= 1.

    Returns:
        Pooled features (B, C, H, W) in the dtype of ``x``.

    Raises:
        ValueError: If the shapes do not fit together.
    """
    if x.dim() != 4 or weights.dim() != 4 or weights.shape[1] < 1 or (
            x.shape[0], *x.shape[2:]) != (weights.shape[0], *weights.shape[2:]):
        raise ValueError('x must be (B, C, H, W) and weights (B, K, H, W) with K >= 1, got '
                         f'{tuple(x.shape)} and {tuple(weights.shape)}')
    weights = weights.to(x.dtype)
    if is_recorded():
        return _plain(x, weights)
    with torch.cuda.device_of(x):
        return _TokenAwareAvgPool.apply(x, weights)


def _plain(x: Tensor, weights: Tensor) -> Tensor:
    """Plain tensor code, which a compiler fuses by itself and every exporter knows."""
    out = weights[:, :1] * x
    for k in range(1, weights.shape[1]):
        padded = F.pad(x, (k, k, k, k))
        rows = padded[..., :-2 * k] + padded[..., k:-k] + padded[..., 2 * k:]
        box = rows[:, :, :-2 * k] + rows[:, :, k:-k] + rows[:, :, 2 * k:]
        out = out + weights[:, k:k + 1] / 9 * box
    return out


def _forward(x: Tensor, weights: Tensor) -> Tensor:
    out = torch.empty_like(x)
    for images in _groups(x):
        part, weight = _wide(x[images]), _wide(weights[images])
        rows, box = torch.empty_like(part), torch.empty_like(part)
        total = part * weight[:, :1]
        for k in range(1, weights.shape[1]):
            total.addcmul_(_box_sum(part, k, rows, box), weight[:, k:k + 1], value=1 / 9)
        out[images] = total
    return out


def _backward(x: Tensor, weights: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    grad_x, grad_weights = torch.empty_like(x), torch.empty_like(weights)
    for images in _groups(x):
        part, weight, grad_part = _wide(x[images]), _wide(weights[images]), _wide(grad[images])
        rows, box, product = (torch.empty_like(part) for _ in range(3))
        total = grad_part * weight[:, :1]
        grad_weights[images, 0] = torch.mul(grad_part, part, out=product).sum(1)
        for k in range(1, weights.shape[1]):
            # the gradient of a weight is <grad, P_k(x)>, that of x P_k(w_k grad): P_k is symmetric
            _box_sum(part, k, rows, box)
            grad_weights[images, k] = torch.mul(grad_part, box, out=product).sum(1).div_(9)
            torch.mul(grad_part, weight[:, k:k + 1], out=product)
            total.add_(_box_sum(product, k, rows, box), alpha=1 / 9)
        grad_x[images] = total
    return grad_x, grad_weights


def _groups(x: Tensor) -> list[slice]:
    entries = max(1, x.shape[1:].numel())
    step = max(1, len(x) if x.is_cuda else GROUP_ENTRIES // entries)
    return [slice(b, b + step) for b in range(0, len(x), step)]


def _wide(x: Tensor) -> Tensor:
    return x.to(statistics_dtype(x.dtype))


def _box_sum(x: Tensor, dilation: int, rows: Tensor, out: Tensor) -> Tensor:
    """Dilated 3x3 sums with zero padding, one direction after the other."""
    return _shift_sum(_shift_sum(x, 3, dilation, rows), 2, dilation, out)


def _shift_sum(x: Tensor, dim: int, step: int, out: Tensor) -> Tensor:
    """x[i - step] + x[i] + x[i + step] along a dimension, zeros beyond the border."""
    rest = max(x.shape[dim] - step, 0)
    first = x.shape[dim] - rest
    out.narrow(dim, 0, first).copy_(x.narrow(dim, 0, first))
    torch.add(x.narrow(dim, first, rest), x.narrow(dim, 0, rest), out=out.narrow(dim, first, rest))
    out.narrow(dim, 0, rest).add_(x.narrow(dim, first, rest))
    return out
