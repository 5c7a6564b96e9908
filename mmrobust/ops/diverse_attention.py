"""Attention that also returns what attention diversification needs, in O(N) memory.

Without a logit mask a GPU computes the output by the library's fused attention, as if nobody
listened, and the statistics by kernels of their own. Everything else is computed in blocks.
"""
import functools
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from . import chunked_attention as chunked
from .backend import (
    INTERPRETED,
    autocast_dtype,
    has_tensor_cores,
    import_kernels,
    is_recorded,
    runs_triton,
)

# channels of a head that the kernels can do
WIDEST = {torch.float32: 64, torch.float16: 128, torch.bfloat16: 128}


def _statistics(q: Tensor, k: Tensor, lse: Optional[Tensor],  # noqa: UP045 - torch reads it
                scale: float, threshold: float, column_threshold: float, strict: bool
                ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    kernels = import_kernels('triton_statistics')
    options = chunked.Options(scale, threshold, column_threshold, strict)
    with torch.cuda.device_of(q):
        return kernels.forward(q, k, lse, options)


def _statistics_backward(q: Tensor, k: Tensor, lse: Tensor, inverse_norm: Tensor,
                         grad_column: Tensor, grad_normalized: Tensor, scale: float,
                         threshold: float, column_threshold: float, strict: bool
                         ) -> tuple[Tensor, Tensor]:
    kernels = import_kernels('triton_statistics')
    options = chunked.Options(scale, threshold, column_threshold, strict)
    with torch.cuda.device_of(q):
        return kernels.backward(q, k, lse, inverse_norm, options, grad_column, grad_normalized)


def _chunked(q: Tensor, k: Tensor, v: Tensor, logit_mask: Optional[Tensor],  # noqa: UP045
             scale: float, threshold: float, column_threshold: float, strict: bool
             ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    options = chunked.Options(scale, threshold, column_threshold, strict)
    out, column_sum, normalized, (inverse_norm,) = chunked.forward(q, k, v, logit_mask, options)
    return out, column_sum, normalized, inverse_norm


def _chunked_backward(q: Tensor, k: Tensor, v: Tensor,
                      logit_mask: Optional[Tensor],  # noqa: UP045
                      inverse_norm: Tensor, grad_out: Tensor, grad_column: Tensor,
                      grad_normalized: Tensor, needs_mask: bool, scale: float, threshold: float,
                      column_threshold: float, strict: bool
                      ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The mask's gradient is empty where it is not needed."""
    options = chunked.Options(scale, threshold, column_threshold, strict)
    *grads, grad_mask = chunked.backward(
        q, k, v, logit_mask, (inverse_norm,), options, (grad_out, grad_column, grad_normalized),
        needs_mask=needs_mask)
    return *grads, q.new_empty(0) if grad_mask is None else grad_mask


def _setup_statistics(ctx, inputs, output):
    q, k, _, *ctx.options = inputs
    ctx.save_for_backward(q, k, *output[2:])
    ctx.mark_non_differentiable(*output[2:])


def _setup_chunked(ctx, inputs, output):
    *tensors, ctx.scale, ctx.threshold, ctx.column_threshold, ctx.strict = inputs
    ctx.save_for_backward(*tensors, output[3])
    ctx.mark_non_differentiable(output[3])


class _ColumnStatistics(torch.autograd.Function):

    @staticmethod
    def forward(ctx, *inputs):
        output = _statistics(*inputs)
        _setup_statistics(ctx, inputs, output)
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *grads):
        return _grad_statistics(ctx, *grads, function=_statistics_backward)


class _DiverseAttention(torch.autograd.Function):

    @staticmethod
    def forward(ctx, *inputs):
        output = _chunked(*inputs)
        _setup_chunked(ctx, inputs, output)
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *grads):
        return _grad_chunked(ctx, *grads, function=_chunked_backward)


def _grad_statistics(ctx, grad_column, grad_normalized, *_, function):
    grads = function(*ctx.saved_tensors, grad_column, grad_normalized, *ctx.options)
    return *grads, *[None] * 5


def _grad_chunked(ctx, grad_out, grad_column, grad_normalized, _, *, function):
    q, k, v, logit_mask, inverse_norm = ctx.saved_tensors
    with torch.autocast(q.device.type, enabled=False):
        *grads, grad_mask = function(
            q, k, v, logit_mask, inverse_norm, grad_out, grad_column, grad_normalized,
            ctx.needs_input_grad[3], ctx.scale, ctx.threshold, ctx.column_threshold, ctx.strict)
    return *grads, grad_mask if ctx.needs_input_grad[3] else None, *[None] * 4


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
    options = (q.shape[-1]**-0.5 if scale is None else float(scale), float(threshold),
               float(threshold if column_threshold is None else column_threshold), strict)
    q, k, v, logit_mask = tensors
    with torch.autocast(device, enabled=False):
        if logit_mask is None and _on_kernels(q, v):
            out, lse = _library_attention(q, k, v, options[0])
            return out, *column_statistics_op(q, k, lse, *options)[:2]
        return diverse_attention_op(q, k, v, logit_mask, *options)[:3]


def _on_kernels(q: Tensor, v: Tensor) -> bool:
    if not runs_triton(q) or 0 in (*q.shape, *v.shape):
        return False
    return q.shape[-1] <= WIDEST.get(q.dtype, 0) and (
        INTERPRETED or has_tensor_cores(q.device.index))


def _library_attention(q: Tensor, k: Tensor, v: Tensor, scale: float
                       ) -> tuple[Tensor, Tensor | None]:
    """What ``F.scaled_dot_product_attention`` gives, and its log-sum-exp if that can be had."""
    width = q.shape[-1]
    if q.is_cuda and not is_recorded() and width % 8 == 0 and width == v.shape[-1]:
        aten, choice = torch.ops.aten, torch._fused_sdp_choice(q, k, v, scale=scale)
        if choice == 1:
            return aten._scaled_dot_product_flash_attention(q, k, v, scale=scale)[:2]
        if choice == 2:
            out, lse, *_ = aten._scaled_dot_product_efficient_attention(
                q, k, v, None, True, scale=scale)
            return out, lse[..., :q.shape[2]]  # padded
        if choice == 3 and _cudnn_gives_sums():
            out, lse, *_ = aten._scaled_dot_product_cudnn_attention(
                q, k, v, None, True, scale=scale)
            return out, lse.reshape(q.shape[:3])  # has a last dimension of 1
    return F.scaled_dot_product_attention(q, k, v, scale=scale), None


@functools.cache
def _cudnn_gives_sums() -> bool:
    """Whether this torch's operator of cuDNN takes the arguments that are given above."""
    operator = getattr(torch.ops.aten, '_scaled_dot_product_cudnn_attention', None)
    names = [] if operator is None else [a.name for a in operator.default._schema.arguments]
    return names[3:5] == ['attn_bias', 'compute_log_sumexp']


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


def _operator(name: str, function, autograd: type, setup, gradient, backward, fake, fake_backward):
    """A function that torch.compile keeps as one node, with its gradient as another.

    Torch before 2.4 has no way to say so: there the compiler steps around it.
    """
    if not hasattr(torch.library, 'custom_op'):
        return torch.compiler.disable(autograd.apply)
    node = torch.library.custom_op(f'mmrobust::{name}', function, mutates_args=())
    node_backward = torch.library.custom_op(f'mmrobust::{name}_backward', backward,
                                            mutates_args=())
    node.register_fake(fake)
    node_backward.register_fake(fake_backward)
    node.register_autograd(lambda ctx, *grads: gradient(ctx, *grads, function=node_backward),
                           setup_context=lambda ctx, inputs, output: setup(ctx, inputs, output))
    return lambda *inputs: (node if is_recorded() else autograd.apply)(*inputs)


def _fake_statistics(q, k, *_):
    sums = [q.new_empty(q.shape[0], k.shape[2], dtype=torch.float32) for _ in range(2)]
    lse = q.new_empty(q.shape[:3], dtype=torch.float32)
    return *sums, lse, q.new_empty(q.shape[0], q.shape[2], dtype=torch.float32)


def _fake_chunked(q, k, v, *_):
    dtype = torch.promote_types(q.dtype, torch.float32)
    out = q.new_empty(q.shape[0], q.shape[2], q.shape[1], v.shape[3]).transpose(1, 2)
    sums = [q.new_empty(q.shape[0], k.shape[2], dtype=dtype) for _ in range(2)]
    return out, *sums, q.new_empty(q.shape[0], q.shape[2], dtype=dtype)


def _like_queries(q):
    B, h, Nq, d = q.shape
    return q.new_empty(B, Nq, h, d).transpose(1, 2)


column_statistics_op = _operator(
    'column_statistics', _statistics, _ColumnStatistics, _setup_statistics, _grad_statistics,
    _statistics_backward, _fake_statistics,
    lambda q, k, *_: (_like_queries(q), k.new_empty(k.shape)))
diverse_attention_op = _operator(
    'diverse_attention', _chunked, _DiverseAttention, _setup_chunked, _grad_chunked,
    _chunked_backward, _fake_chunked,
    lambda q, k, v, logit_mask, _inverse, _out, _column, _normalized, needs_mask, *_: (
        _like_queries(q), k.new_empty(k.mT.shape).mT, v.new_empty(v.mT.shape).mT,
        torch.empty_like(logit_mask) if needs_mask else q.new_empty(0)))
