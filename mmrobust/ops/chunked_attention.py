"""Diverse attention in blocks of rows: any device and dtype, scratch memory of O(N).

The blocks are few rows of all heads, because the statistics need the mean over heads of whole
rows. Every product writes into a buffer or gradient that exists already: on the CPU fresh memory
costs as much as the arithmetic.
"""
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK_ROWS = 32  # scratch memory of a block is about that of q, k and v
BLOCK_ENTRIES = 2**19  # a block holds several whole images where they are smaller than this


class Options(NamedTuple):
    scale: float
    threshold: float
    column_threshold: float
    strict: bool

    def levels(self, num_heads: int, num_keys: int, dtype: torch.dtype) -> tuple[float, float]:
        """Limits on the sum over heads; an entry counts when it is greater (never equal)."""
        limits = torch.tensor([self.threshold, self.column_threshold], dtype=torch.float64)
        limits = (limits * num_heads / num_keys).to(dtype)
        if not self.strict:
            limits = limits.nextafter(limits.new_tensor(-math.inf))
        return tuple(limits.tolist())


def statistics_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _image_groups(batch: int, entries: int) -> Iterator[slice]:
    step = max(1, BLOCK_ENTRIES // entries)
    return (slice(b, min(b + step, batch)) for b in range(0, batch, step))


def _row_blocks(rows: int, images: int) -> Iterator[slice]:
    step = BLOCK_ROWS if images == 1 else rows
    return (slice(r, min(r + step, rows)) for r in range(0, rows, step))


def _flat(x: Tensor, images: slice, dtype: torch.dtype) -> Tensor:
    """Some images as (images * h, N, d); a view when it is one image of that dtype."""
    return x[images].flatten(0, 1).to(dtype)


def _bmm(a: Tensor, b: Tensor, out: Tensor, alpha: float = 1, beta: float = 0) -> Tensor:
    """alpha * a @ b + beta * out, in place."""
    return torch.baddbmm(out, a, b, beta=beta, alpha=alpha, out=out)


class _Scratch:
    """Buffers of the largest block, viewed in the shape that is needed."""

    def __init__(self, like: Tensor, dtype: torch.dtype):
        self._like = like
        self._dtype = dtype
        self._buffers: dict[str, Tensor] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size:
            buffer = self._buffers[name] = self._like.new_empty(size, dtype=self._dtype)
        return buffer[:size].view(shape)


def _attention(q: Tensor, k: Tensor, mask: Tensor | None, scale: float,
               scratch: _Scratch) -> tuple[Tensor, Tensor]:
    """Attention and unmasked logits of one block, (images * h, rows, Nk)."""
    shape = len(q), q.shape[1], k.shape[1]
    logits = _bmm(q, k.mT, scratch('logits', *shape), alpha=scale)
    masked = logits if mask is None else (logits.unflatten(0, (-1, len(mask))) * mask).flatten(0, 1)
    return torch.softmax(masked, -1, out=scratch('attention', *shape)), logits


def _sum_over_heads(attention: Tensor, num_heads: int, scratch: _Scratch) -> Tensor:
    attention = attention.unflatten(0, (-1, num_heads))  # (images, h, rows, Nk)
    total = scratch('total', len(attention), *attention.shape[2:])
    return torch.sum(attention, 1, out=total)


def _kept(total: Tensor, level: float, scratch: _Scratch) -> Tensor:
    return torch.threshold(total, level, 0, out=scratch('kept', *total.shape))


def forward(q: Tensor, k: Tensor, v: Tensor, logit_mask: Tensor | None, options: Options):
    """Output, both statistics, and the tuple of O(N) tensors that :func:`backward` needs."""
    (B, h, Nq, _), (Nk, dv) = q.shape, v.shape[2:]
    dtype = statistics_dtype(q.dtype)
    mask = None if logit_mask is None else logit_mask.to(dtype)
    out = q.new_empty(B, Nq, h, dv).transpose(1, 2)  # heads beside channels: merging is a view
    sums = q.new_zeros(B, 2, Nk, dtype=dtype)
    inverse_norm = q.new_empty(B, Nq, dtype=dtype)
    level, column_level = options.levels(h, Nk, dtype)
    scratch = _Scratch(q, dtype)
    for images in _image_groups(B, h * Nq * Nk):
        flat_q, flat_k, flat_v = (_flat(x, images, dtype) for x in (q, k, v))
        for rows in _row_blocks(Nq, images.stop - images.start):
            attention, _ = _attention(flat_q[:, rows], flat_k, _rows_of(mask, rows),
                                      options.scale, scratch)
            values = _bmm(attention, flat_v, scratch('values', *attention.shape[:2], dv))
            out[images, :, rows] = values.unflatten(0, (-1, h))
            total = _sum_over_heads(attention, h, scratch)  # (images, rows, Nk)
            kept = _kept(total, level, scratch)
            inverse = torch.linalg.vector_norm(kept, dim=-1).reciprocal_()
            inverse.masked_fill_(inverse.isinf(), 0)  # rows that keep no entry
            inverse_norm[images, rows] = inverse
            same = torch.full_like(inverse, column_level == level)
            sums[images].baddbmm_(torch.stack([same, inverse], 1), kept)
            if column_level != level:
                sums[images, 0] += _kept(total, column_level, scratch).sum(1)
    column_sum, normalized = sums.unbind(1)
    return out, column_sum / h, normalized.contiguous(), (inverse_norm,)


def backward(q: Tensor, k: Tensor, v: Tensor, logit_mask: Tensor | None, saved, options: Options,
             grads, needs_mask: bool):
    """Gradients of q, k, v and the logit mask."""
    (B, h, Nq, _), Nk = q.shape, k.shape[2]
    dtype = statistics_dtype(q.dtype)
    mask = None if logit_mask is None else logit_mask.to(dtype)
    inverse_norm, = saved
    grad_out, grad_column, grad_normalized = grads
    grad_sums = torch.stack([grad_column / h, grad_normalized], 1)  # (B, 2, Nk)
    grad_q = torch.empty_like(q)
    grad_k, grad_v = (x.new_empty(x.shape, dtype=dtype) for x in (k, v))
    grad_mask = torch.zeros_like(mask) if needs_mask else None
    levels = options.levels(h, Nk, dtype)
    scratch = _Scratch(q, dtype)
    for images in _image_groups(B, h * Nq * Nk):
        flat_q, flat_k, flat_v, flat_grad = (
            _flat(x, images, dtype) for x in (q, k, v, grad_out))
        sum_k, sum_v = grad_k[images].flatten(0, 1), grad_v[images].flatten(0, 1)  # views
        for rows in _row_blocks(Nq, images.stop - images.start):
            row_q, row_grad, row_mask = flat_q[:, rows], flat_grad[:, rows], _rows_of(mask, rows)
            accumulate = min(rows.start, 1)
            attention, logits = _attention(row_q, flat_k, row_mask, options.scale, scratch)
            if needs_mask:
                logits = logits.clone()
            _bmm(attention.mT, row_grad, sum_v, beta=accumulate)
            shared = _statistics_gradient(attention, inverse_norm[images, rows],
                                          grad_sums[images], levels, h, scratch)
            grad = _bmm(row_grad, flat_v.mT, scratch('logits', *attention.shape))
            grad.unflatten(0, (-1, h)).add_(shared[:, None])
            torch.ops.aten._softmax_backward_data.out(grad, attention, -1, dtype, grad_input=grad)
            if mask is not None:
                if needs_mask:
                    grad_mask[:, rows] += (grad * logits).unflatten(0, (-1, h)).sum(0)
                grad.unflatten(0, (-1, h)).mul_(row_mask)
            _bmm(grad.mT, row_q, sum_k, alpha=options.scale, beta=accumulate)
            product = _bmm(grad, flat_k, scratch('product', *row_q.shape), alpha=options.scale)
            grad_q[images, :, rows] = product.unflatten(0, (-1, h))
    return (grad_q, grad_k.to(k.dtype), grad_v.to(v.dtype),
            grad_mask.to(logit_mask.dtype) if needs_mask else None)


def _rows_of(mask: Tensor | None, rows: slice) -> Tensor | None:
    return None if mask is None else mask[:, rows]


def _statistics_gradient(attention: Tensor, inverse: Tensor, grad_sums: Tensor,
                         levels: tuple[float, float], num_heads: int,
                         scratch: _Scratch) -> Tensor:
    """Gradient of the attention weights (every head's alike) from both statistics.

    With n = kept / |kept|: grad_column / h + (grad_normalized - <grad_normalized, n> n) / |kept|,
    where the sum over heads stands for the mean, hence the single 1 / h.
    """
    level, column_level = levels
    total = _sum_over_heads(attention, num_heads, scratch)
    kept = _kept(total, level, scratch)
    along = torch.bmm(kept, grad_sums[:, 1, :, None])[..., 0] * inverse.pow(3)
    same = torch.full_like(inverse, column_level == level)
    grad = _bmm(torch.stack([same, inverse], -1), grad_sums, scratch('grad', *total.shape))
    grad.addcmul_(kept, along[..., None], value=-1)
    grad = torch.ops.aten.threshold_backward(grad, total, level, grad_input=grad)
    if column_level != level:
        grad += (total > column_level) * grad_sums[:, :1]
    return grad
