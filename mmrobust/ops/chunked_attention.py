"""Diverse attention in blocks of rows: any device and dtype, a few MB of scratch memory."""
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK_ELEMENTS = 2**20  # attention entries (all heads) worked on at a time


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


def _blocks(batch: int, heads: int, rows: int, keys: int) -> Iterator[tuple[slice, slice]]:
    """Images and rows of each block: several whole images where they are small."""
    row_step = min(rows, max(1, BLOCK_ELEMENTS // (heads * keys)))
    image_step = max(1, BLOCK_ELEMENTS // (heads * keys * rows)) if row_step == rows else 1
    for b in range(0, batch, image_step):
        for r in range(0, rows, row_step):
            yield slice(b, min(b + image_step, batch)), slice(r, min(r + row_step, rows))


def _flat(x: Tensor, images: slice, rows: slice, dtype: torch.dtype) -> Tensor:
    """One block as (images * h, rows, d); a view when it is one image of that dtype."""
    return x[images, :, rows].flatten(0, 1).to(dtype)


def _attention(q: Tensor, k: Tensor, mask: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """Attention and unmasked logits of one block, (images * h, rows, Nk)."""
    logits = torch.bmm(q * scale, k.transpose(1, 2))
    masked = logits if mask is None else (logits.unflatten(0, (-1, len(mask))) * mask).flatten(0, 1)
    return masked.softmax(-1), logits


def _block_mask(logit_mask: Tensor | None, rows: slice, dtype: torch.dtype) -> Tensor | None:
    return None if logit_mask is None else logit_mask[:, rows].to(dtype)


def forward(q: Tensor, k: Tensor, v: Tensor, logit_mask: Tensor | None, options: Options):
    """Output, both statistics, and the tuple of O(N) tensors that :func:`backward` needs."""
    (B, h, Nq, _), (Nk, dv) = q.shape, v.shape[2:]
    dtype = statistics_dtype(q.dtype)
    out = q.new_empty(B, Nq, h, dv).transpose(1, 2)  # heads beside channels: merging is a view
    column_sum, normalized = q.new_zeros(2, B, Nk, dtype=dtype)
    inverse_norm = q.new_empty(B, Nq, dtype=dtype)
    level, column_level = options.levels(h, Nk, dtype)
    everything = slice(None)
    for images, rows in _blocks(B, h, Nq, Nk):
        attention, _ = _attention(
            _flat(q, images, rows, dtype), _flat(k, images, everything, dtype),
            _block_mask(logit_mask, rows, dtype), options.scale)
        values = torch.bmm(attention, _flat(v, images, everything, dtype))
        out[images, :, rows] = values.unflatten(0, (-1, h))
        total = attention.unflatten(0, (-1, h)).sum(1)  # (images, rows, Nk)
        kept = torch.threshold(total, level, 0)
        inverse = torch.linalg.vector_norm(kept, dim=-1).reciprocal()
        inverse.masked_fill_(inverse.isinf(), 0)  # rows that keep no entry
        inverse_norm[images, rows] = inverse
        column = kept if column_level == level else torch.threshold(total, column_level, 0)
        column_sum[images] += column.sum(1)
        normalized[images] += torch.bmm(inverse[:, None], kept)[:, 0]
    return out, column_sum.div_(h), normalized, (out, inverse_norm)


def backward(q: Tensor, k: Tensor, v: Tensor, logit_mask: Tensor | None, saved, options: Options,
             grads, needs_mask: bool):
    """Gradients of q, k, v and the logit mask."""
    (B, h, Nq, _), Nk = q.shape, k.shape[2]
    dtype = statistics_dtype(q.dtype)
    _, inverse_norm = saved
    grad_out, grad_column, grad_normalized = grads
    grad_q = torch.empty_like(q)
    grad_k = torch.zeros_like(k, dtype=dtype)
    grad_v = torch.zeros_like(v, dtype=dtype)
    grad_mask = torch.zeros_like(logit_mask, dtype=dtype) if needs_mask else None
    level, column_level = options.levels(h, Nk, dtype)
    everything = slice(None)
    for images, rows in _blocks(B, h, Nq, Nk):
        q_, k_ = _flat(q, images, rows, dtype), _flat(k, images, everything, dtype)
        mask = _block_mask(logit_mask, rows, dtype)
        attention, logits = _attention(q_, k_, mask, options.scale)
        total = attention.unflatten(0, (-1, h)).sum(1)
        shared = _statistics_gradient(total, inverse_norm[images, rows], grad_column[images],
                                      grad_normalized[images], level, column_level, h)
        grad_rows = _flat(grad_out, images, rows, dtype)
        grad_v[images] += torch.bmm(attention.mT, grad_rows).unflatten(0, (-1, h))
        grad = torch.bmm(grad_rows, _flat(v, images, everything, dtype).mT)
        grad.unflatten(0, (-1, h)).add_(shared[:, None])
        grad = torch._softmax_backward_data(grad, attention, -1, dtype)
        if mask is not None:
            if needs_mask:
                grad_mask[:, rows] += (grad * logits).unflatten(0, (-1, h)).sum(0)
            grad.unflatten(0, (-1, h)).mul_(mask)
        grad_q[images, :, rows] = torch.bmm(grad, k_).mul_(options.scale).unflatten(0, (-1, h))
        grad_k[images] += torch.bmm(grad.mT, q_ * options.scale).unflatten(0, (-1, h))
    if needs_mask:
        grad_mask = grad_mask.to(logit_mask.dtype)
    return grad_q, grad_k.to(k.dtype), grad_v.to(v.dtype), grad_mask


def _statistics_gradient(total: Tensor, inverse: Tensor, grad_column: Tensor,
                         grad_normalized: Tensor, level: float, column_level: float,
                         num_heads: int) -> Tensor:
    """Gradient of the attention weights (every head's alike) from both statistics.

    With n = kept / |kept|: grad_column / h + (grad_normalized - <grad_normalized, n> n) / |kept|,
    where the sum over heads stands for the mean, hence the single 1 / h.
    """
    kept = torch.threshold(total, level, 0)
    along = torch.bmm(kept, grad_normalized[..., None])[..., 0] * inverse.pow(3)
    grad = inverse[..., None] * grad_normalized[:, None]
    grad.addcmul_(kept, along[..., None], value=-1)
    column = (grad_column / num_heads)[:, None]
    if column_level == level:
        return torch.ops.aten.threshold_backward(grad + column, total, level)
    grad = torch.ops.aten.threshold_backward(grad, total, level)
    return grad.add_(torch.ops.aten.threshold_backward(
        column.expand_as(total), total, column_level))
