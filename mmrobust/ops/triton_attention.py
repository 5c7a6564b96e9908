"""Diverse attention on CUDA: flash attention kernels around a buffer of the mean over heads.

The statistics couple all heads, flash attention treats each alone. What they exchange is the sum
over heads of the attention, recomputed by ``_total`` for a bounded number of rows at a time;
every head's backward reads it to add the gradient of the statistics to that of its attention.
Nothing uses atomics, so results repeat bit by bit.
"""
from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from .backend import interpreted
from .chunked_attention import Options

BUFFER_BYTES = 2**26  # for the sum over heads; what does not fit is done in several passes
ROW_SPLITS = 16  # programs that share the rows of one block of keys in the column sums
LOG2E = 1.4426950408889634


def _config(rows: int, keys: int, warps: int, stages: int) -> dict[str, int]:
    return dict(BM=rows, BN=keys, num_warps=warps, num_stages=stages)


# of the largest tiles those that spill no register and fit 100 kB of shared memory (sm_86, sm_89)
CONFIGS = {
    'float32': dict(attend=_config(64, 32, 8, 2), total=_config(64, 64, 8, 2),
                    grad=_config(32, 32, 8, 2)),
    'half': dict(attend=_config(128, 64, 4, 3), total=_config(128, 128, 8, 3),
                 grad=_config(64, 64, 4, 2)),
    'half, more than 64 channels': dict(
        attend=_config(128, 64, 8, 2), total=_config(128, 64, 8, 2),
        grad=_config(64, 32, 8, 2))}


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


@triton.jit
def _attend(Q, K, V, Out, Lse, scale, H, Nq, Nk,
            q_b, q_h, q_n, k_b, k_h, k_n, v_b, v_h, v_n, o_b, o_h, o_n,
            BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, BV: tl.constexpr,
            d: tl.constexpr, dv: tl.constexpr, ALIGN: tl.constexpr,
            PRECISION: tl.constexpr):
    """Output and base-2 logsumexp of one block of rows of one head (flash attention)."""
    h, b = tl.program_id(0), tl.program_id(2).to(tl.int64)
    rows = tl.program_id(1) * BM + tl.arange(0, BM)
    channels, values = tl.arange(0, BD), tl.arange(0, BV)
    q = _load(_head(Q, b, h, q_b, q_h, ALIGN), rows, channels, q_n, Nq, d)
    top = tl.full([BM], float('-inf'), tl.float32)
    total = tl.zeros([BM], tl.float32)
    acc = tl.zeros([BM, BV], tl.float32)
    for start in range(0, Nk, BN):
        keys = start + tl.arange(0, BN)
        k = _load(_head(K, b, h, k_b, k_h, ALIGN), keys, channels, k_n, Nk, d)
        logits = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
        logits = tl.where(keys[None, :] < Nk, logits, float('-inf'))
        new_top = tl.maximum(top, tl.max(logits, 1))
        shrink = tl.exp2(top - new_top)
        p = tl.exp2(logits - new_top[:, None])
        total = total * shrink + tl.sum(p, 1)
        v = _load(_head(V, b, h, v_b, v_h, ALIGN), keys, values, v_n, Nk, dv)
        acc = acc * shrink[:, None] + tl.dot(p.to(v.dtype), v, input_precision=PRECISION)
        top = new_top
    acc = (acc / total[:, None]).to(Out.dtype.element_ty)
    _store(_head(Out, b, h, o_b, o_h, ALIGN), acc, rows, values, o_n, Nq, dv)
    tl.store(Lse + (b * H + h) * Nq + rows, top + tl.log2(total), mask=rows < Nq)


@triton.jit
def _total(Q, K, Lse, Total, Partial, Weight, scale, floor, level, H, R, Nk,
           q_b, q_h, q_n, k_b, k_h, k_n, lse_b, lse_h, weight_b,
           BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, d: tl.constexpr,
           ALIGN: tl.constexpr, WEIGHTED: tl.constexpr, PRECISION: tl.constexpr):
    """Sum over heads of one tile of attention, without entries up to ``floor``.

    And what this tile contributes to each row's squared norm (or product with a given vector),
    of the entries above ``level``.
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
        part = tl.sum(kept * weight[None, :], 1)
    else:
        part = tl.sum(kept * kept, 1)
    parts = tl.num_programs(1)
    tl.store(Partial + (b * parts + tl.program_id(1)) * R + rows, part, mask=rows < R)


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
def _shared_gradient(Total, GradSums, rows, keys, inverse, along, level, column_level, R, Nk):
    """Gradient of every head's attention in one tile from both statistics."""
    total = _load(Total, rows, keys, Nk, R, Nk).to(tl.float32)
    column = tl.load(GradSums + keys, mask=keys < Nk, other=0.)
    normalized = tl.load(GradSums + Nk + keys, mask=keys < Nk, other=0.)
    grad = inverse[:, None] * normalized[None, :] - along[:, None] * total
    grad = tl.where(total > level, grad, 0.)
    return grad + tl.where(total > column_level, column[None, :], 0.)


@triton.jit
def _grad_q(Q, K, V, Out, GradOut, Lse, Total, GradSums, Inverse, Along, GradQ, Delta,
            scale, factor, level, column_level, H, R, Nk,
            q_b, q_h, q_n, k_b, k_h, k_n, v_b, v_h, v_n, o_b, o_h, o_n, g_b, g_h, g_n,
            gq_b, gq_h, gq_n, lse_b, lse_h, sums_b, inverse_b,
            BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, BV: tl.constexpr,
            d: tl.constexpr, dv: tl.constexpr, ALIGN: tl.constexpr,
            PRECISION: tl.constexpr):
    """Gradient of the queries, and the row sums ``Delta`` that the softmax backward subtracts.

    The statistics' share of those sums is known only at the end: it is taken off afterwards.
    """
    h, b = tl.program_id(0), tl.program_id(2).to(tl.int64)
    rows = tl.program_id(1) * BM + tl.arange(0, BM)
    channels, values = tl.arange(0, BD), tl.arange(0, BV)
    q = _load(_head(Q, b, h, q_b, q_h, ALIGN), rows, channels, q_n, R, d)
    out = _load(_head(Out, b, h, o_b, o_h, ALIGN), rows, values, o_n, R, dv).to(tl.float32)
    grad_out = _load(_head(GradOut, b, h, g_b, g_h, ALIGN), rows, values, g_n, R, dv)
    delta = tl.sum(out * grad_out.to(tl.float32), 1)
    lse = tl.load(Lse + b * lse_b + h * lse_h + rows, mask=rows < R, other=0.)
    inverse = tl.load(Inverse + b * inverse_b + rows, mask=rows < R, other=0.)
    along = tl.load(Along + b * R + rows, mask=rows < R, other=0.)
    shared_delta = tl.zeros([BM], tl.float32)
    acc = tl.zeros([BM, BD], tl.float32)
    mean_key = tl.zeros([BM, BD], tl.float32)
    for start in range(0, Nk, BN):
        keys = start + tl.arange(0, BN)
        k = _load(_head(K, b, h, k_b, k_h, ALIGN), keys, channels, k_n, Nk, d)
        v = _load(_head(V, b, h, v_b, v_h, ALIGN), keys, values, v_n, Nk, dv)
        logits = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
        p = tl.where(keys[None, :] < Nk, tl.exp2(logits - lse[:, None]), 0.)
        shared = _shared_gradient(Total + b * R * Nk, GradSums + b * sums_b, rows, keys, inverse,
                                  along, level, column_level, R, Nk)
        shared_delta += tl.sum(p * shared, 1)
        grad = tl.dot(grad_out, tl.trans(v), input_precision=PRECISION) + shared
        grad = p * (grad - delta[:, None])
        acc += tl.dot(grad.to(k.dtype), k, input_precision=PRECISION)
        mean_key += tl.dot(p.to(k.dtype), k, input_precision=PRECISION)
    acc = ((acc - shared_delta[:, None] * mean_key) * factor).to(GradQ.dtype.element_ty)
    _store(_head(GradQ, b, h, gq_b, gq_h, ALIGN), acc, rows, channels, gq_n, R, d)
    tl.store(Delta + (b * H + h) * R + rows, delta + shared_delta, mask=rows < R)


@triton.jit
def _grad_kv(Q, K, V, GradOut, Lse, Total, GradSums, Inverse, Along, Delta, GradK, GradV,
             scale, factor, level, column_level, H, R, Nk,
             q_b, q_h, q_n, k_b, k_h, k_n, v_b, v_h, v_n, g_b, g_h, g_n,
             lse_b, lse_h, sums_b, inverse_b,
             BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, BV: tl.constexpr,
             d: tl.constexpr, dv: tl.constexpr, ALIGN: tl.constexpr,
             ACCUMULATE: tl.constexpr, PRECISION: tl.constexpr):
    """Gradients of one block of keys and values of one head, (B, h, Nk, d) in float32."""
    h, b = tl.program_id(0), tl.program_id(2).to(tl.int64)
    keys = tl.program_id(1) * BN + tl.arange(0, BN)
    channels, values = tl.arange(0, BD), tl.arange(0, BV)
    k = _load(_head(K, b, h, k_b, k_h, ALIGN), keys, channels, k_n, Nk, d)
    v = _load(_head(V, b, h, v_b, v_h, ALIGN), keys, values, v_n, Nk, dv)
    to_k = GradK + (b * H + h) * Nk * d
    to_v = GradV + (b * H + h) * Nk * dv
    acc_k = tl.zeros([BN, BD], tl.float32)
    acc_v = tl.zeros([BN, BV], tl.float32)
    for start in range(0, R, BM):
        rows = start + tl.arange(0, BM)
        q = _load(_head(Q, b, h, q_b, q_h, ALIGN), rows, channels, q_n, R, d)
        grad_out = _load(_head(GradOut, b, h, g_b, g_h, ALIGN), rows, values, g_n, R, dv)
        lse = tl.load(Lse + b * lse_b + h * lse_h + rows, mask=rows < R, other=0.)
        inverse = tl.load(Inverse + b * inverse_b + rows, mask=rows < R, other=0.)
        along = tl.load(Along + b * R + rows, mask=rows < R, other=0.)
        delta = tl.load(Delta + (b * H + h) * R + rows, mask=rows < R, other=0.)
        logits = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
        p = tl.where(rows[:, None] < R, tl.exp2(logits - lse[:, None]), 0.)
        acc_v += tl.dot(tl.trans(p.to(grad_out.dtype)), grad_out, input_precision=PRECISION)
        grad = tl.dot(grad_out, tl.trans(v), input_precision=PRECISION)
        grad += _shared_gradient(Total + b * R * Nk, GradSums + b * sums_b, rows, keys, inverse,
                                 along, level, column_level, R, Nk)
        grad = p * (grad - delta[:, None])
        acc_k += tl.dot(tl.trans(grad.to(q.dtype)), q, input_precision=PRECISION)
    acc_k *= factor
    if ACCUMULATE:
        acc_k += _load(to_k, keys, channels, d, Nk, d)
        acc_v += _load(to_v, keys, values, dv, Nk, dv)
    _store(to_k, acc_k, keys, channels, d, Nk, d)
    _store(to_v, acc_v, keys, values, dv, Nk, dv)


def supports(q: Tensor, v: Tensor) -> bool:
    """Whether the kernels can do this; the interpreter runs them on the CPU."""
    on_device = (torch.cuda.get_device_capability(q.device) >= (8, 0) if q.is_cuda
                 else interpreted())
    widest = {torch.float32: 64, torch.float16: 128, torch.bfloat16: 128}.get(q.dtype, 0)
    return on_device and max(q.shape[-1], v.shape[-1]) <= widest and 0 not in (
        *q.shape, *v.shape)


class _Launch:
    """What the launches of one call share."""

    def __init__(self, options: Options, q: Tensor, k: Tensor, v: Tensor, *others: Tensor):
        (self.B, self.h, self.Nq, d), (self.Nk, dv) = q.shape, v.shape[2:]
        strides = [stride for x in (q, k, v, *others) for stride in x.stride()[:3]]
        tf32 = torch.get_float32_matmul_precision() != 'highest'
        self.keys = dict(d=d, BD=max(16, triton.next_power_of_2(d)),
                         ALIGN=1 if any(stride % 8 for stride in strides) else 8,
                         PRECISION='tf32' if tf32 else 'tf32x3')
        self.channels = dict(self.keys, dv=dv, BV=max(16, triton.next_power_of_2(dv)))
        kind = 'half' if max(d, dv) <= 64 else 'half, more than 64 channels'
        self.configs = CONFIGS['float32' if q.dtype == torch.float32 else kind]
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
        config = self.configs['total']
        parts = triton.cdiv(self.Nk, config['BN'])
        partial = q.new_empty(n, parts, R, dtype=torch.float32)
        floor = self.levels[0] if self.equal_levels else -1.
        _total[triton.cdiv(R, config['BM']), parts, n](
            q, k, lse, total, partial, weight, self.scale, floor, self.levels[0], self.h, R,
            self.Nk, *q.stride()[:3], *k.stride()[:3], *lse.stride()[:2],
            0 if weight is None else weight.stride(0), WEIGHTED=weight is not None,
            **self.keys, **config)
        return total, partial.sum(1), (0., 0.) if self.equal_levels else self.levels


def _adjacent_channels(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def forward(q: Tensor, k: Tensor, v: Tensor, logit_mask: None, options: Options):
    """Like :func:`mmrobust.ops.chunked_attention.forward`, without a logit mask."""
    q, k, v = map(_adjacent_channels, (q, k, v))
    B, h, Nq, _ = q.shape
    out = v.new_empty(B, Nq, h, v.shape[3]).transpose(1, 2)
    run = _Launch(options, q, k, v, out)
    lse = q.new_empty(run.B, run.h, run.Nq, dtype=torch.float32)
    config = run.configs['attend']
    _attend[run.h, triton.cdiv(run.Nq, config['BM']), run.B](
        q, k, v, out, lse, run.scale, run.h, run.Nq, run.Nk, *q.stride()[:3], *k.stride()[:3],
        *v.stride()[:3], *out.stride()[:3], **run.channels, **config)
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
    return out, column_sum / run.h, normalized.contiguous(), (out, lse, inverse_norm)


def backward(q: Tensor, k: Tensor, v: Tensor, logit_mask: None, saved, options: Options, grads,
             needs_mask: bool = False):
    """Like :func:`mmrobust.ops.chunked_attention.backward`, without a logit mask."""
    out, lse, inverse_norm = saved
    grad_out, grad_column, grad_normalized = grads
    q, k, v, grad_out = map(_adjacent_channels, (q, k, v, grad_out))
    B, h, Nq, d = q.shape
    grad_q = q.new_empty(B, Nq, h, d).transpose(1, 2)
    grad_k, grad_v = (x.new_empty(x.shape, dtype=torch.float32) for x in (k, v))
    run = _Launch(options, q, k, v, out, grad_out, grad_q)
    config = run.configs['grad']
    grad_sums = torch.stack([grad_column / run.h, grad_normalized], 1)  # (B, 2, Nk)
    # rounding the sum over heads is harmless where no threshold is applied to it any more
    exact = q.dtype == torch.float32 or not run.equal_levels
    buffer_dtype = torch.float32 if exact else torch.bfloat16
    for images, rows in run.chunks(buffer_dtype.itemsize):
        part_q, part_k, part_v = q[images, :, rows], k[images], v[images]
        part_out, part_grad = out[images, :, rows], grad_out[images, :, rows]
        part_lse, inverse = lse[images, :, rows], inverse_norm[images, rows]
        part_sums, to_q = grad_sums[images], grad_q[images, :, rows]
        total, product, levels = run.total(part_q, part_k, part_lse, buffer_dtype,
                                           weight=part_sums[:, 1])
        n, R, _ = total.shape
        along = product * inverse.pow(3)
        delta = q.new_empty(n, run.h, R, dtype=torch.float32)
        numbers = run.scale, options.scale, *levels, run.h, R, run.Nk
        strides = (*part_q.stride()[:3], *part_k.stride()[:3], *part_v.stride()[:3])
        last = (*part_lse.stride()[:2], part_sums.stride(0), inverse.stride(0))
        _grad_q[run.h, triton.cdiv(R, config['BM']), n](
            part_q, part_k, part_v, part_out, part_grad, part_lse, total, part_sums, inverse,
            along, to_q, delta, *numbers, *strides, *part_out.stride()[:3],
            *part_grad.stride()[:3], *to_q.stride()[:3], *last, **run.channels, **config)
        _grad_kv[run.h, triton.cdiv(run.Nk, config['BN']), n](
            part_q, part_k, part_v, part_grad, part_lse, total, part_sums, inverse, along, delta,
            grad_k[images], grad_v[images], *numbers, *strides, *part_grad.stride()[:3], *last,
            ACCUMULATE=rows.start > 0, **run.channels, **config)
    return grad_q, grad_k.to(k.dtype), grad_v.to(v.dtype), None
