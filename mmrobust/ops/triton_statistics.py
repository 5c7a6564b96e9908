"""Column statistics of attention on CUDA, beside the library's own fused attention.

The statistics couple all heads. What the heads exchange is the sum over them of the attention,
recomputed by ``_total`` for a bounded number of rows at a time; each head's backward reads it.
Nothing uses atomics, so results repeat bit by bit.
"""
import inspect
from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from .backend import INTERPRETED
from .chunked_attention import Options

BUFFER_BYTES = 2**26  # for the sum over heads; what does not fit is done in several passes
ROW_SPLITS = 16  # programs that share the rows of one block of keys in the column sums
PART = 32  # keys that share a partial sum over a row; divides every block of keys
LOG2E = 1.4426950408889634

# rows, keys, warps, stages: the first serves every card of compute capability 8.0 on, in float32
# too; the others were the fastest of sixteen for one of the kernels on an H200
BLOCKS = (64, 32, 4, 2), (64, 64, 4, 3), (64, 128, 4, 3), (128, 128, 8, 3)


def _tuned(kernel):
    """Let Triton choose the block sizes when a type or a width of heads is met first."""
    on_disk = 'cache_results' in inspect.signature(triton.autotune).parameters
    configs = [triton.Config(dict(BM=rows, BN=keys), num_warps=warps, num_stages=stages)
               for rows, keys, warps, stages in (BLOCKS[:1] if INTERPRETED else BLOCKS)]
    return triton.autotune(configs, key=['d'],
                           **dict(cache_results=True) if on_disk else {})(kernel)


@triton.jit
def _head(pointer, b, h, stride_b, stride_h, ALIGN: tl.constexpr):
    """Where a head's tokens begin; ``ALIGN`` tells the compiler how wide it can load."""
    return pointer + tl.multiple_of(b * stride_b + h * stride_h, ALIGN)


@triton.jit
def _load(pointer, rows, columns, row_stride, num_rows, num_columns):
    """A tile, zeros beyond the borders; channels are adjacent."""
    inside = (rows[:, None] < num_rows) & (columns[None, :] < num_columns)
    return tl.load(pointer + rows[:, None] * row_stride + columns[None, :], mask=inside, other=0.)


@triton.jit
def _store(pointer, tile, rows, columns, row_stride, num_rows, num_columns):
    inside = (rows[:, None] < num_rows) & (columns[None, :] < num_columns)
    tl.store(pointer + rows[:, None] * row_stride + columns[None, :], tile, mask=inside)


@_tuned
@triton.jit
def _log_sum_exp(Q, K, Lse, scale, H, R, Nk, q_b, q_h, q_n, k_b, k_h, k_n,
                 BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, d: tl.constexpr,
                 ALIGN: tl.constexpr, PRECISION: tl.constexpr):
    """Base-2 logarithm of the softmax's denominator, where the library does not give it."""
    h, b = tl.program_id(0), tl.program_id(2).to(tl.int64)
    rows = tl.program_id(1) * BM + tl.arange(0, BM)
    channels = tl.arange(0, BD)
    q = _load(_head(Q, b, h, q_b, q_h, ALIGN), rows, channels, q_n, R, d)
    top = tl.full([BM], float('-inf'), tl.float32)
    total = tl.zeros([BM], tl.float32)
    for start in range(0, Nk, BN):
        keys = start + tl.arange(0, BN)
        k = _load(_head(K, b, h, k_b, k_h, ALIGN), keys, channels, k_n, Nk, d)
        logits = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
        logits = tl.where(keys[None, :] < Nk, logits, float('-inf'))
        new_top = tl.maximum(top, tl.max(logits, 1))
        total = total * tl.exp2(top - new_top) + tl.sum(tl.exp2(logits - new_top[:, None]), 1)
        top = new_top
    tl.store(Lse + (b * H + h) * R + rows, top + tl.log2(total), mask=rows < R)


@_tuned
@triton.jit
def _total(Q, K, Lse, Total, Partial, Weight, scale, floor, level, H, R, Nk,
           q_b, q_h, q_n, k_b, k_h, k_n, lse_b, lse_h, weight_b,
           BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, d: tl.constexpr,
           ALIGN: tl.constexpr, PART: tl.constexpr, WEIGHTED: tl.constexpr,
           PRECISION: tl.constexpr):
    """Sum over heads of one tile of attention, without entries up to ``floor``.

    And what this tile contributes to each row's squared norm (or product with a given vector),
    of the entries above ``level``: one number for its first ``PART`` keys, 0 for the others.
    """
    b = tl.program_id(2).to(tl.int64)
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    keys = tl.program_id(1) * BN + tl.arange(0, BN)
    channels = tl.arange(0, BD)
    total = tl.zeros([BM, BN], tl.float32)
    for h in range(H):
        q = _load(_head(Q, b, h, q_b, q_h, ALIGN), rows, channels, q_n, R, d)
        k = _load(_head(K, b, h, k_b, k_h, ALIGN), keys, channels, k_n, Nk, d)
        lse = tl.load(Lse + b * lse_b + h * lse_h + rows, mask=rows < R, other=0.)
        logits = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
        total += tl.exp2(logits - lse[:, None])
    total = tl.where((keys[None, :] < Nk) & (total > floor), total, 0.)
    _store(Total + b * R * Nk, total.to(Total.dtype.element_ty), rows, keys, Nk, R, Nk)
    kept = tl.where(total > level, total, 0.)
    if WEIGHTED:
        weight = tl.load(Weight + b * weight_b + keys, mask=keys < Nk, other=0.)
        row = tl.sum(kept * weight[None, :], 1)
    else:
        row = tl.sum(kept * kept, 1)
    parts = tl.cdiv(Nk, PART)
    for i in tl.static_range(BN // PART):
        part = tl.program_id(1) * (BN // PART) + i
        tl.store(Partial + (b * parts + part) * R + rows, row if i == 0 else row * 0,
                 mask=(rows < R) & (part < parts))


@triton.jit
def _column_sums(Total, Inverse, Sums, level, column_level, R, Nk, inverse_b, rows_per_program,
                 BM: tl.constexpr, BN: tl.constexpr):
    """Both statistics of one block of keys over a share of the rows."""
    b = tl.program_id(2).to(tl.int64)
    keys = tl.program_id(0) * BN + tl.arange(0, BN)
    column = tl.zeros([BN], tl.float32)
    normalized = tl.zeros([BN], tl.float32)
    begin = tl.program_id(1) * rows_per_program
    for start in range(begin, begin + rows_per_program, BM):
        rows = start + tl.arange(0, BM)
        total = _load(Total + b * R * Nk, rows, keys, Nk, R, Nk).to(tl.float32)
        inverse = tl.load(Inverse + b * inverse_b + rows, mask=rows < R, other=0.)
        column += tl.sum(tl.where(total > column_level, total, 0.), 0)
        normalized += tl.sum(tl.where(total > level, total, 0.) * inverse[:, None], 0)
    sums = Sums + (b * tl.num_programs(1) + tl.program_id(1)) * 2 * Nk
    tl.store(sums + keys, column, mask=keys < Nk)
    tl.store(sums + Nk + keys, normalized, mask=keys < Nk)


@triton.jit
def _attention_gradient(Total, GradSums, rows, keys, inverse, along, level, column_level, R, Nk):
    """Gradient of every head's attention in one tile from both statistics."""
    total = _load(Total, rows, keys, Nk, R, Nk).to(tl.float32)
    column = tl.load(GradSums + keys, mask=keys < Nk, other=0.)
    normalized = tl.load(GradSums + Nk + keys, mask=keys < Nk, other=0.)
    grad = inverse[:, None] * normalized[None, :] - along[:, None] * total
    grad = tl.where(total > level, grad, 0.)
    return grad + tl.where(total > column_level, column[None, :], 0.)


@_tuned
@triton.jit
def _grad_q(Q, K, Lse, Total, GradSums, Inverse, Along, Unit, GradQ, Delta, scale, factor, level,
            column_level, H, R, Nk, q_b, q_h, q_n, k_b, k_h, k_n, gq_b, gq_h, gq_n, lse_b, lse_h,
            sums_b, inverse_b, BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
            d: tl.constexpr, ALIGN: tl.constexpr, PRECISION: tl.constexpr):
    """Gradient of the queries, and the row sums ``Delta`` that the softmax backward subtracts.

    These are known only at the end: what they take off is subtracted from the sum.
    """
    h, b = tl.program_id(0), tl.program_id(2).to(tl.int64)
    rows = tl.program_id(1) * BM + tl.arange(0, BM)
    channels = tl.arange(0, BD)
    q = _load(_head(Q, b, h, q_b, q_h, ALIGN), rows, channels, q_n, R, d)
    lse = tl.load(Lse + b * lse_b + h * lse_h + rows, mask=rows < R, other=0.)
    inverse = tl.load(Inverse + b * inverse_b + rows, mask=rows < R, other=0.)
    along = tl.load(Along + b * R + rows, mask=rows < R, other=0.)
    delta = tl.zeros([BM], tl.float32)
    acc = tl.zeros([BM, BD], tl.float32)
    mean_key = tl.zeros([BM, BD], tl.float32)
    for start in range(0, Nk, BN):
        keys = start + tl.arange(0, BN)
        k = _load(_head(K, b, h, k_b, k_h, ALIGN), keys, channels, k_n, Nk, d)
        logits = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
        p = tl.where(keys[None, :] < Nk, tl.exp2(logits - lse[:, None]), 0.)
        grad = p * _attention_gradient(Total + b * R * Nk, GradSums + b * sums_b, rows, keys,
                                       inverse, along, level, column_level, R, Nk)
        delta += tl.sum(grad, 1)
        acc += tl.dot(grad.to(k.dtype), k, input_precision=PRECISION)
        mean_key += tl.dot(p.to(k.dtype), k, input_precision=PRECISION)
    acc = (acc - delta[:, None] * mean_key) * (factor * tl.load(Unit))
    _store(_head(GradQ, b, h, gq_b, gq_h, ALIGN), acc.to(GradQ.dtype.element_ty), rows, channels,
           gq_n, R, d)
    tl.store(Delta + (b * H + h) * R + rows, delta, mask=rows < R)


@_tuned
@triton.jit
def _grad_k(Q, K, Lse, Total, GradSums, Inverse, Along, Delta, Unit, GradK, scale, factor, level,
            column_level, H, R, Nk, q_b, q_h, q_n, k_b, k_h, k_n, lse_b, lse_h, sums_b, inverse_b,
            BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, d: tl.constexpr,
            ALIGN: tl.constexpr, PRECISION: tl.constexpr):
    """Gradient of one block of keys of one head, (B, h, Nk, d)."""
    h, b = tl.program_id(0), tl.program_id(2).to(tl.int64)
    keys = tl.program_id(1) * BN + tl.arange(0, BN)
    channels = tl.arange(0, BD)
    k = _load(_head(K, b, h, k_b, k_h, ALIGN), keys, channels, k_n, Nk, d)
    acc = tl.zeros([BN, BD], tl.float32)
    for start in range(0, R, BM):
        rows = start + tl.arange(0, BM)
        q = _load(_head(Q, b, h, q_b, q_h, ALIGN), rows, channels, q_n, R, d)
        lse = tl.load(Lse + b * lse_b + h * lse_h + rows, mask=rows < R, other=0.)
        inverse = tl.load(Inverse + b * inverse_b + rows, mask=rows < R, other=0.)
        along = tl.load(Along + b * R + rows, mask=rows < R, other=0.)
        delta = tl.load(Delta + (b * H + h) * R + rows, mask=rows < R, other=0.)
        logits = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
        p = tl.where(rows[:, None] < R, tl.exp2(logits - lse[:, None]), 0.)
        grad = _attention_gradient(Total + b * R * Nk, GradSums + b * sums_b, rows, keys, inverse,
                                   along, level, column_level, R, Nk)
        grad = p * (grad - delta[:, None])
        acc += tl.dot(tl.trans(grad.to(q.dtype)), q, input_precision=PRECISION)
    acc = acc * (factor * tl.load(Unit))
    _store(GradK + (b * H + h) * Nk * d, acc.to(GradK.dtype.element_ty), keys, channels, d, Nk, d)


class _Launch:
    """What the launches of one call share."""

    def __init__(self, options: Options, q: Tensor, k: Tensor, *others: Tensor):
        (self.B, self.h, self.Nq, d), self.Nk = q.shape, k.shape[2]
        strides = [stride for x in (q, k, *others) for stride in x.stride()[:3]]
        tf32 = torch.get_float32_matmul_precision() != 'highest'
        self.keys = dict(d=d, BD=max(16, triton.next_power_of_2(d)),
                         ALIGN=1 if any(stride % 8 for stride in strides) else 8,
                         PRECISION='tf32' if tf32 else 'tf32x3')
        self.scale = options.scale * LOG2E
        self.levels = options.levels(self.h, self.Nk, torch.float32)
        self.equal_levels = self.levels[0] == self.levels[1]

    def chunks(self, itemsize: int) -> Iterator[tuple[slice, slice]]:
        """Images and rows for which the sum over heads fits the buffer."""
        entries = BUFFER_BYTES // itemsize
        rows = min(self.Nq, max(1, entries // self.Nk))
        images = max(1, entries // (rows * self.Nk)) if rows == self.Nq else 1
        for b in range(0, self.B, images):
            for r in range(0, self.Nq, rows):
                yield slice(b, min(b + images, self.B)), slice(r, min(r + rows, self.Nq))

    def total(self, q: Tensor, k: Tensor, lse: Tensor, dtype: torch.dtype,
              weight: Tensor | None = None) -> tuple[Tensor, Tensor, tuple[float, float]]:
        """Sum over heads, its rows' squares or products with ``weight``, levels to apply to it."""
        n, _, R, _ = q.shape
        total = q.new_empty(n, R, self.Nk, dtype=dtype)
        partial = q.new_empty(n, triton.cdiv(self.Nk, PART), R, dtype=torch.float32)
        floor = self.levels[0] if self.equal_levels else -1.
        _total[lambda m: (triton.cdiv(R, m['BM']), triton.cdiv(self.Nk, m['BN']), n)](
            q, k, lse, total, partial, weight, self.scale, floor, self.levels[0], self.h, R,
            self.Nk, *q.stride()[:3], *k.stride()[:3], *lse.stride()[:2],
            0 if weight is None else weight.stride(0), PART=PART, WEIGHTED=weight is not None,
            **self.keys)
        return total, partial.sum(1), (0., 0.) if self.equal_levels else self.levels


def _adjacent(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def forward(q: Tensor, k: Tensor, lse: Tensor | None, options: Options
            ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Both statistics of :func:`mmrobust.ops.diverse_attention`, and what backward needs.

    Args:
        q: Queries (B, h, Nq, d).
        k: Keys (B, h, Nk, d).
        lse: Natural logarithm of the softmax's denominators (B, h, Nq), if it is known.
        options: Scale and thresholds.
    """
    q, k = _adjacent(q), _adjacent(k)
    run = _Launch(options, q, k)
    if lse is None:
        lse = q.new_empty(run.B, run.h, run.Nq, dtype=torch.float32)
        _log_sum_exp[lambda m: (run.h, triton.cdiv(run.Nq, m['BM']), run.B)](
            q, k, lse, run.scale, run.h, run.Nq, run.Nk, *q.stride()[:3], *k.stride()[:3],
            **run.keys)
    else:
        lse = (lse * LOG2E).contiguous()
    sums = q.new_zeros(run.B, 2, run.Nk, dtype=torch.float32)
    inverse_norm = q.new_empty(run.B, run.Nq, dtype=torch.float32)
    for images, rows in run.chunks(4):
        total, squares, levels = run.total(q[images, :, rows], k[images], lse[images, :, rows],
                                           torch.float32)
        n, R, _ = total.shape
        inverse = inverse_norm[images, rows].copy_(squares.rsqrt())
        inverse.masked_fill_(inverse.isinf(), 0)  # rows that keep no entry
        splits = min(ROW_SPLITS, triton.cdiv(R, 64))
        share = triton.cdiv(triton.cdiv(R, splits), 64) * 64
        partial = q.new_empty(n, splits, 2, run.Nk, dtype=torch.float32)
        _column_sums[triton.cdiv(run.Nk, 64), splits, n](
            total, inverse, partial, *levels, R, run.Nk, inverse.stride(0), share, BM=64, BN=64)
        sums[images] += partial.sum(1)
    column_sum, normalized = sums.unbind(1)
    return column_sum / run.h, normalized.contiguous(), lse, inverse_norm


def backward(q: Tensor, k: Tensor, lse: Tensor, inverse_norm: Tensor, options: Options,
             grad_column: Tensor, grad_normalized: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the queries and keys."""
    q, k = _adjacent(q), _adjacent(k)
    B, h, Nq, d = q.shape
    grad_q = q.new_empty(B, Nq, h, d).transpose(1, 2)
    grad_k = torch.zeros(k.shape, dtype=torch.float32, device=k.device)
    run = _Launch(options, q, k, grad_q)
    grad_sums = torch.stack([grad_column / run.h, grad_normalized], 1)  # (B, 2, Nk)
    # of order 1 within the kernels: float16 has no smaller numbers than 6e-8
    unit = grad_sums.abs().amax().clamp(min=torch.finfo(torch.float32).tiny)
    grad_sums = grad_sums / unit
    # rounding the sum over heads is harmless where no threshold is applied to it any more; it is
    # at most the number of heads, for which float16 has the digits that bfloat16 lacks
    exact = q.dtype == torch.float32 or not run.equal_levels
    buffer_dtype = torch.float32 if exact else torch.float16
    for images, rows in run.chunks(buffer_dtype.itemsize):
        part_q, part_k, part_lse = q[images, :, rows], k[images], lse[images, :, rows]
        inverse, part_sums, to_q = inverse_norm[images, rows], grad_sums[images], grad_q[
            images, :, rows]
        total, product, levels = run.total(part_q, part_k, part_lse, buffer_dtype,
                                           weight=part_sums[:, 1])
        n, R, _ = total.shape
        along = product * inverse.pow(3)
        delta = q.new_empty(n, h, R, dtype=torch.float32)
        to_k = torch.empty_like(grad_k[images])
        shared = total, part_sums, inverse, along
        numbers = run.scale, options.scale, *levels, h, R, run.Nk
        strides = *part_q.stride()[:3], *part_k.stride()[:3]
        last = *part_lse.stride()[:2], part_sums.stride(0), inverse.stride(0)
        _grad_q[lambda m: (h, triton.cdiv(R, m['BM']), n)](  # noqa: B023 - called at once
            part_q, part_k, part_lse, *shared, unit, to_q, delta, *numbers, *strides,
            *to_q.stride()[:3], *last, **run.keys)
        _grad_k[lambda m: (h, triton.cdiv(run.Nk, m['BN']), n)](  # noqa: B023 - called at once
            part_q, part_k, part_lse, *shared, delta, unit, to_k, *numbers, *strides, *last,
            **run.keys)
        grad_k[images] += to_k
    return grad_q, grad_k.to(k.dtype)
