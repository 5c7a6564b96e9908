"""Token-aware average pooling: a weighted sum of dilated 3x3 means."""
import torch
from torch import Tensor


def _shift_sum(x: Tensor, dim: int, step: int) -> Tensor:
    """x[i - step] + x[i] + x[i + step] along a dimension, zeros beyond the border."""
    out = x.clone()
    rest = x.shape[dim] - step
    if rest > 0:
        out.narrow(dim, step, rest).add_(x.narrow(dim, 0, rest))
        out.narrow(dim, 0, rest).add_(x.narrow(dim, step, rest))
    return out


def _box_sum(x: Tensor, dilation: int) -> Tensor:
    """Dilated 3x3 sums with zero padding; symmetric, hence its own adjoint."""
    return _shift_sum(_shift_sum(x, 3, dilation), 2, dilation)


class _TokenAwareAvgPool(torch.autograd.Function):

    @staticmethod
    def forward(ctx, x, weights):
        ctx.save_for_backward(x, weights)
        out = x * weights[:, :1]
        for k in range(1, weights.shape[1]):
            out.addcmul_(_box_sum(x, k), weights[:, k:k + 1], value=1 / 9)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        x, weights = ctx.saved_tensors
        grad_x = torch.mul(grad, weights[:, :1], out=torch.empty_like(x))
        grad_weights = torch.empty_like(weights)
        grad_weights[:, 0] = (grad * x).sum(1)
        for k in range(1, weights.shape[1]):
            # <grad, P_k(x)> over channels; P_k is its own adjoint
            grad_weights[:, k] = (grad * _box_sum(x, k)).sum(1) / 9
            grad_x.add_(_box_sum(grad * weights[:, k:k + 1], k), alpha=1 / 9)
        return grad_x, grad_weights


def token_aware_avg_pool(x: Tensor, weights: Tensor) -> Tensor:
    r"""Mean over neighbourhoods whose size every token weights for itself.

    :math:`\sum_k w_k P_k(x)` with :math:`P_0` the identity and :math:`P_k` the 3x3 mean with
    dilation and zero padding k, always divided by 9 (Guo et al., ICCV 2023, Sec. 3.2). Keeps only
    its inputs for backward, and their memory format; channels-last is the fast one.

    Args:
        x: Features (B, C, H, W).
        weights: Weight of each of the K branches at each position (B, K, H, W), K >= 1.

    Returns:
        Pooled features (B, C, H, W).

    Raises:
        ValueError: If the shapes do not fit together.
    """
    if x.dim() != 4 or weights.dim() != 4 or weights.shape[1] < 1 or (
            x.shape[0], *x.shape[2:]) != (weights.shape[0], *weights.shape[2:]):
        raise ValueError('x must be (B, C, H, W) and weights (B, K, H, W) with K >= 1, got '
                         f'{tuple(x.shape)} and {tuple(weights.shape)}')
    return _TokenAwareAvgPool.apply(x, weights.to(x.dtype))
