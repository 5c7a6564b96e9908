"""The CUDA kernels, run by Triton's interpreter in a process that has it switched on."""
import os
import subprocess
import sys

import pytest
import torch

from mmrobust.ops.backend import OLDEST_TRITON

pytest.importorskip('triton', reason='Triton is not installed',
                    minversion='.'.join(map(str, OLDEST_TRITON)))

# (B, h, Nq, Nk, d, dv, dtype, tolerance, buffer bytes, options): several blocks of rows and keys,
# ragged ends, passes through the bounded buffer, each precision that the interpreter knows
CASES = [
    (2, 2, 40, 90, 20, 12, 'float32', 2e-5, 2**26, dict(threshold=2)),
    (1, 3, 70, 35, 8, 8, 'float32', 2e-5, 2**12, dict(threshold=1.3, column_threshold=0,
                                                      strict=True, scale=.5)),
    (3, 1, 1, 1, 4, 4, 'float32', 2e-5, 2**26, dict(threshold=1)),
    (1, 2, 10, 12, 4, 4, 'float32', 2e-5, 2**26, dict(threshold=13)),
    (1, 2, 50, 50, 16, 16, 'float16', 3e-3, 2**26, dict(threshold=1.5)),
]

ATTENTION = '''
import torch
from mmrobust.ops import diverse_attention, triton_statistics
from mmrobust.testing import dense_diverse_attention

calls = []
original = triton_statistics.backward
triton_statistics.backward = lambda *args, **kw: calls.append(1) or original(*args, **kw)
rng = torch.Generator().manual_seed(0)
for B, h, Nq, Nk, d, dv, dtype, tolerance, triton_statistics.BUFFER_BYTES, options in {cases!r}:
    tensors = [torch.randn(B, n, h, c, generator=rng).to(getattr(torch, dtype)).transpose(1, 2)
               .requires_grad_() for n, c in ((Nq, d), (Nk, d), (Nk, dv))]
    exact = [t.detach().double().requires_grad_() for t in tensors]
    ours = diverse_attention(*tensors, **options)
    dense = dense_diverse_attention(*exact, **options)
    grads = [torch.randn(o.shape, generator=rng) for o in ours]
    for outputs, inputs in ((ours, tensors), (dense, exact)):
        torch.autograd.backward(outputs, [g.to(o) for g, o in zip(grads, outputs)])
    assert calls.pop(), 'the chunked version was used'
    for a, b in [*zip(ours, dense), *((t.grad, e.grad) for t, e in zip(tensors, exact))]:
        error = (a.double() - b).norm() / b.norm() if b.any() else a.abs().max()
        assert error < tolerance, (Nq, Nk, dtype, tuple(a.shape), error.item())
'''

COMPILED = '''
import torch
from mmrobust.ops import diverse_attention, triton_statistics

calls = []
original = triton_statistics.backward
triton_statistics.backward = lambda *args: calls.append(1) or original(*args)

def loss(q, k, v):
    out, column, normalized = diverse_attention(q, k, v, threshold=1.2)
    return out.square().mean() + (column * normalized).sum()

tensors = [torch.randn(2, 20, 3, 8).transpose(1, 2).requires_grad_() for _ in range(3)]
eager = torch.autograd.grad(loss(*tensors), tensors)
compiled = torch.compile(loss, fullgraph=True, backend='aot_eager')
for a, b in zip(torch.autograd.grad(compiled(*tensors), tensors), eager):
    torch.testing.assert_close(a, b)
assert len(calls) == 2, 'the chunked version was used'
'''

POOLING = '''
import torch
from mmrobust.ops import token_aware_avg_pool, triton_pooling
from mmrobust.testing import dense_token_aware_avg_pool

calls = []
original = triton_pooling.backward
triton_pooling.backward = lambda *args: calls.append(1) or original(*args)
rng = torch.Generator().manual_seed(0)
for shape, K, dtype, tolerance in [((2, 70, 5, 7), 4, torch.float32, 1e-5),
                                   ((1, 3, 2, 1), 3, torch.float32, 1e-5),
                                   ((2, 8, 4, 6), 1, torch.float16, 2e-3)]:
    for memory_format in (torch.channels_last, torch.contiguous_format):
        x = torch.randn(shape, generator=rng).to(dtype).contiguous(memory_format=memory_format)
        weights = torch.randn(shape[0], K, *shape[2:], generator=rng).softmax(1).to(dtype)
        tensors = [x.requires_grad_(), weights.requires_grad_()]
        exact = [t.detach().double().requires_grad_() for t in tensors]
        ours, dense = token_aware_avg_pool(*tensors), dense_token_aware_avg_pool(*exact)
        assert ours.is_contiguous(memory_format=memory_format)
        grad = torch.randn(ours.shape, generator=rng)
        ours.backward(grad.to(ours))
        dense.backward(grad.to(dense))
        assert calls.pop(), 'the plain version was used'
        for a, b in [(ours, dense), *((t.grad, e.grad) for t, e in zip(tensors, exact))]:
            error = (a.double() - b).norm() / b.norm()
            assert error < tolerance, (shape, K, dtype, error.item())
'''


@pytest.mark.parametrize('script', [
    ATTENTION.format(cases=CASES), POOLING, pytest.param(COMPILED, marks=pytest.mark.skipif(
        not hasattr(torch.library, 'custom_op'), reason='operators of our own need torch 2.4'))],
    ids=['attention', 'pooling', 'compiled'])
def test_kernels_agree_with_dense(script, repo):
    result = subprocess.run(
        [sys.executable, '-c', script], cwd=repo, text=True, check=False, capture_output=True,
        env={**os.environ, 'TRITON_INTERPRET': '1', 'PYTHONPATH': str(repo)})
    assert result.returncode == 0, result.stderr[-2000:]
