"""Attention that also returns what attention diversification needs, in O(N) memory."""
import torch
from torch import Tensor

from . import chunked_attention as chunked
from .backend import autocast_dtype, triton_module


class _DiverseAttention(torch.autograd.Function):

    @staticmethod
    def forward(ctx, q, k, v, logit_mask, options):
        kernels = triton_module('triton_attention', q, v) if logit_mask is None else None
        ctx.kernels = kernels or chunked
        out, column_sum, normalized, saved = ctx.kernels.forward(q, k, v, logit_mask, options)
        ctx.save_for_backward(q, k, v, logit_mask, *saved)
        ctx.options = options
        return out, column_sum, normalized

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_out, grad_column, grad_normalized):
        q, k, v, logit_mask, *saved = ctx.saved_tensors
        with torch.autocast(q.device.type, enabled=False):
            grads = ctx.kernels.backward(q, k, v, logit_mask, saved, ctx.options,
                                         (grad_out, grad_column, grad_normalized),
                                         needs_mask=ctx.needs_input_grad[3])
        return *grads, None


def diverse_attention(
        q: Tensor, k: Tensor, v: Tensor, *, threshold: float, scale: float | None = None,
        logit_mask: Tensor | None = None, column_threshold: float | None = None,
        strict: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    r"""Multi-head attention with the two column statistics of attention diversification.

    With :math:`A` the softmax attention averaged over heads and :math:`\hat A_i` row :math:`i` of
    it without the entries below ``threshold / Nk``, returns besides the attention output
    :math:`\sum_i \hat A_i` and :math:`\sum_i \hat A_i / \|\hat A_i\|`. The mean cosine between
    the rows and their mean (Guo et al., ICCV 2023, Eq. 3) is a dot product of these two vectors.
    No (Nq, Nk) matrix is kept; backward recomputes it in blocks of rows.

    Args:
        q: Queries (B, h, Nq, d).
        k: Keys (B, h, Nk, d).
        v: Values (B, h, Nk, dv).
        threshold: Entries below ``threshold / Nk`` count as 0 in both statistics.
        scale: Factor on the logits. Defaults to ``d ** -0.5``.
        logit_mask: Multiplies the logits before the softmax, (h, Nq, Nk).
        column_threshold: Another threshold for the first statistic only.
        strict: Whether an entry that equals the threshold is dropped.

    Returns:
        Output (B, h, Nq, dv) in the inputs' dtype, column sum and normalized column sum (B, Nk),
        in float32 or better. All three carry gradients; the thresholds' masks are constants.

    Raises:
        ValueError: If the shapes do not fit together.
    """
    _check(q, k, v, logit_mask)
    tensors = [q, k, v, logit_mask]
    device = q.device.type
    if (dtype := autocast_dtype(device)) is not None:
        tensors = [t if t is None or t.dtype == torch.float64 else t.to(dtype) for t in tensors]
    options = chunked.Options(
        scale=q.shape[-1]**-0.5 if scale is None else float(scale), threshold=threshold,
        column_threshold=threshold if column_threshold is None else column_threshold,
        strict=strict)
    with torch.autocast(device, enabled=False), torch.cuda.device_of(q):
        return _apply(*tensors, options)


@torch.compiler.disable  # loops over blocks are nothing that a compiler improves
def _apply(*args) -> tuple[Tensor, Tensor, Tensor]:
    return _DiverseAttention.apply(*args)


def _check(q: Tensor, k: Tensor, v: Tensor, logit_mask: Tensor | None) -> None:
    shapes = f'q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}'
    if any(t.dim() != 4 for t in (q, k, v)):
        raise ValueError(f'q, k, v must be (B, h, N, d), got {shapes}')
    if not (q.shape[:2] == k.shape[:2] == v.shape[:2] and k.shape[2] == v.shape[2]
            and q.shape[3] == k.shape[3]):
        raise ValueError('q, k, v must share batch and heads, k and v the tokens, q and k the '
                         f'channels, got {shapes}')
    expected = (q.shape[1], q.shape[2], k.shape[2])
    if logit_mask is not None and logit_mask.shape != expected:
        raise ValueError(f'logit_mask must have shape (h, Nq, Nk) = {expected}, '
                         f'got {tuple(logit_mask.shape)}')
