"""Diverse attention in blocks of rows: any device and dtype, scratch memory of O(N).

The blocks are few rows of all heads, because the statistics need the mean over heads of whole
rows. Every large product writes into a buffer or gradient that exists already: on the CPU fresh
memory costs as much as the arithmetic. And it is transposed such that the few rows of the block
come last or are summed over, which is what matrix libraries are fastest at.
"""
import math
from typing import NamedTuple

import torch
from torch import Tensor

from .backend import statistics_dtype

FORWARD_ROWS = 256  # larger is faster; with so many, backward still has the higher peak
BACKWARD_ROWS = 80  # of one image: buffers of a quarter of what SDPA needs
STEP_ENTRIES = 2**20  # of the attention of those heads of one block that are treated together
IMAGE_ENTRIES = 2**19  # an image of at most so many makes one block
IMAGES_ENTRIES = 2**17  # several images make one block where they have no more together
GPU_BLOCK_ENTRIES = 2**25  # launches cost more than memory there


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


def forward(q: Tensor, k: Tensor, v: Tensor, logit_mask: Tensor | None, options: Options):
    """Output, both statistics, and the tuple of O(N) tensors that :func:`backward` needs."""
    (B, h, Nq, _), (Nk, dv) = q.shape, v.shape[2:]
    dtype = statistics_dtype(q.dtype)
    mask = None if logit_mask is None else logit_mask.to(dtype)
    out = q.new_empty(B, Nq, h, dv).transpose(1, 2)  # heads beside channels: merging is a view
    sums = q.new_zeros(B, 2, Nk, dtype=dtype)
    inverse_norm = q.new_empty(B, Nq, dtype=dtype)
    level, column_level = options.levels(h, Nk, dtype)
    n, R = _block_shape(B, h, Nq, Nk, q.device, FORWARD_ROWS)
    group = _heads_per_step(n, h, R * Nk, q.device, least=2)
    scratch = _Scratch(q, dtype, attention=group * R * Nk, product=group * R * dv,
                       total=n * R * Nk, kept=n * R * Nk)
    for images in _slices(B, n):
        count = images.stop - images.start
        flat_q, flat_k, flat_v = (_flat(x, images, dtype) for x in (q, k, v))
        for rows in _slices(Nq, R):
            total = scratch('total', count, rows.stop - rows.start, Nk)
            for heads in _slices(n * h, group):
                attention = _logits(flat_q[heads, rows], flat_k[heads], options.scale, scratch)
                if mask is not None:
                    attention.unflatten(0, (count, -1)).mul_(mask[heads, rows])
                torch.softmax(attention, -1, out=attention)
                product = _transposed_product(attention, flat_v[heads], scratch)
                out[images, heads, rows] = product.unflatten(0, (count, -1))
                attention = attention.unflatten(0, (count, -1))
                if heads.start:
                    total += torch.sum(attention, 1, out=scratch('kept', *total.shape))
                else:
                    torch.sum(attention, 1, out=total)
            kept = torch.threshold(total, level, 0, out=scratch('kept', *total.shape))
            inverse = torch.linalg.vector_norm(kept, dim=-1).reciprocal_()
            inverse.masked_fill_(inverse.isinf(), 0)  # rows that keep no entry
            inverse_norm[images, rows] = inverse
            same = torch.full_like(inverse, column_level == level)
            sums[images].baddbmm_(torch.stack([same, inverse], 1), kept)
            if column_level != level:
                sums[images, 0] += torch.threshold(total, column_level, 0, out=kept).sum(1)
    column_sum, normalized = sums.unbind(1)
    return out, column_sum / h, normalized.contiguous(), (inverse_norm,)


def backward(q: Tensor, k: Tensor, v: Tensor, logit_mask: Tensor | None, saved, options: Options,
             grads, needs_mask: bool):
    """Gradients of q, k, v and the logit mask."""
    (B, h, Nq, d), (Nk, dv) = q.shape, v.shape[2:]
    dtype = statistics_dtype(q.dtype)
    mask = None if logit_mask is None else logit_mask.to(dtype)
    inverse_norm, = saved
    grad_out, grad_column, grad_normalized = grads
    grad_sums = torch.stack([grad_column / h, grad_normalized], 1)  # (B, 2, Nk)
    grad_q = q.new_empty(B, Nq, h, d).transpose(1, 2)
    grad_k = q.new_empty(B, h, d, Nk, dtype=dtype)
    grad_v = q.new_empty(B, h, dv, Nk, dtype=dtype)
    grad_mask = torch.zeros_like(mask) if needs_mask else None
    levels = options.levels(h, Nk, dtype)
    # a further image raises SDPA's needs, so that blocks may be longer at the same ratio
    n, R = _block_shape(B, h, Nq, Nk, q.device, min((B + 1) * BACKWARD_ROWS // 2, FORWARD_ROWS))
    group = _heads_per_step(n, h, R * Nk, q.device, least=-(-h // 2))
    scratch = _Scratch(q, dtype, attention=n * h * R * Nk, grad=group * R * Nk,
                       product=group * R * d, kept=n * R * Nk)
    for images in _slices(B, n):
        count = images.stop - images.start
        flat_q, flat_k, flat_v, flat_grad = (_flat(x, images, dtype) for x in (q, k, v, grad_out))
        sum_k, sum_v = grad_k[images].flatten(0, 1), grad_v[images].flatten(0, 1)
        for rows in _slices(Nq, R):
            row_q, row_grad, accumulate = flat_q[:, rows], flat_grad[:, rows], min(rows.start, 1)
            attention = _logits(row_q, flat_k, options.scale, scratch)
            if mask is not None:
                logits = attention.clone()
                attention.unflatten(0, (-1, h)).mul_(mask[:, rows])
            torch.softmax(attention, -1, out=attention)
            _bmm(row_grad.mT, attention, sum_v, beta=accumulate)
            total = torch.sum(attention.unflatten(0, (count, h)), 1,
                              out=scratch('grad', count, *attention.shape[1:]))  # not needed before
            shared = _statistics_gradient(total, inverse_norm[images, rows], grad_sums[images],
                                          levels, scratch)
            for heads in _slices(n * h, group):
                weights = attention[heads]
                grad = _bmm(row_grad[heads], flat_v[heads].mT, scratch('grad', *weights.shape))
                grad.unflatten(0, (count, -1)).add_(shared[:, None])
                torch.ops.aten._softmax_backward_data.out(grad, weights, -1, dtype,
                                                          grad_input=grad)
                if mask is not None:
                    if needs_mask:
                        product = logits[heads].mul_(grad).unflatten(0, (count, -1))
                        grad_mask[heads, rows] += product.sum(0)
                    grad.unflatten(0, (count, -1)).mul_(mask[heads, rows])
                _bmm(row_q[heads].mT, grad, sum_k[heads], alpha=options.scale, beta=accumulate)
                product = _transposed_product(grad, flat_k[heads], scratch).mul_(options.scale)
                grad_q[images, heads, rows] = product.unflatten(0, (count, -1))
    return (grad_q, grad_k.mT.to(k.dtype), grad_v.mT.to(v.dtype),
            grad_mask.to(logit_mask.dtype) if needs_mask else None)


def _statistics_gradient(total: Tensor, inverse: Tensor, grad_sums: Tensor,
                         levels: tuple[float, float], scratch: '_Scratch') -> Tensor:
    """Gradient of the attention weights (every head's alike) from both statistics.

    With n = kept / |kept|: grad_column / h + (grad_normalized - <grad_normalized, n> n) / |kept|,
    where the sum over heads stands for the mean, hence the single 1 / h (in ``grad_sums``).
    """
    level, column_level = levels
    kept = torch.threshold(total, level, 0, out=scratch('kept', *total.shape))
    along = torch.bmm(kept, grad_sums[:, 1, :, None]) * inverse.pow(3)[..., None]
    same = torch.full_like(inverse, column_level == level)
    grad = kept.mul_(-along).baddbmm_(torch.stack([same, inverse], -1), grad_sums)
    grad = torch.ops.aten.threshold_backward(grad, total, level, grad_input=grad)
    if column_level != level:
        grad += (total > column_level) * grad_sums[:, :1]
    return grad


def _block_shape(batch: int, heads: int, rows: int, keys: int, device: torch.device,
                 cpu_rows: int) -> tuple[int, int]:
    """Images and rows of a block; all rows, where they are few."""
    if device.type == 'cpu':
        one, several, step = IMAGE_ENTRIES, IMAGES_ENTRIES, cpu_rows
    else:
        one = several = GPU_BLOCK_ENTRIES
        step = max(1, GPU_BLOCK_ENTRIES // (heads * keys))
    entries = heads * rows * keys
    if entries > one:
        return 1, min(rows, step)
    return max(1, min(batch, several // entries)), rows


def _heads_per_step(images: int, heads: int, entries: int, device: torch.device, least: int
                    ) -> int:
    """How many heads of one block to treat together, of so many entries each.

    All of them where the block is several images, for these are small.
    """
    if images > 1:
        return images * heads
    limit = STEP_ENTRIES if device.type == 'cpu' else GPU_BLOCK_ENTRIES
    steps = min(-(-heads * entries // limit), heads // min(least, heads))
    return -(-heads // steps)


def _slices(length: int, step: int) -> list[slice]:
    return [slice(i, min(i + step, length)) for i in range(0, length, step)]


def _flat(x: Tensor, images: slice, dtype: torch.dtype) -> Tensor:
    """Some images as (images * h, N, d); a view when it is one image of that dtype."""
    return x[images].flatten(0, 1).to(dtype)


class _Scratch:
    """Buffers in one allocation, sized for the largest block, viewed in the shape of each block.

    Freed as one piece, its place serves the gradients that come next.
    """

    def __init__(self, like: Tensor, dtype: torch.dtype, **sizes: int):
        padded = [-(-size // 16) * 16 for size in sizes.values()]  # keeps all of them aligned
        parts = like.new_empty(sum(padded), dtype=dtype).split(padded)
        self._parts = dict(zip(sizes, parts, strict=True))

    def __call__(self, name: str, *shape: int) -> Tensor:
        return self._parts[name][:math.prod(shape)].view(shape)


def _bmm(a: Tensor, b: Tensor, out: Tensor, alpha: float = 1, beta: float = 0) -> Tensor:
    """alpha * a @ b + beta * out, in place."""
    return torch.baddbmm(out, a, b, beta=beta, alpha=alpha, out=out)


def _logits(q: Tensor, k: Tensor, scale: float, scratch: _Scratch) -> Tensor:
    """Logits of one block, (images * h, rows, Nk), in the buffer that becomes the attention."""
    return _bmm(q, k.mT, scratch('attention', len(q), q.shape[1], k.shape[1]), alpha=scale)


def _transposed_product(a: Tensor, b: Tensor, scratch: _Scratch) -> Tensor:
    """a @ b, whose few rows lie last in memory."""
    return _bmm(b.mT, a.mT, scratch('product', len(a), b.shape[2], a.shape[1])).mT
