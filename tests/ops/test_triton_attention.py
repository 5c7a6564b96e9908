"""The CUDA kernels, run by Triton's interpreter in a process that has it switched on."""
import os
import subprocess
import sys

import pytest

pytest.importorskip('triton', reason='Triton is not installed')

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

SCRIPT = '''
import torch
from mmrobust.ops import diverse_attention, triton_attention
from mmrobust.ops.dense import dense_diverse_attention

calls = []
original = triton_attention.backward
triton_attention.backward = lambda *args, **kw: calls.append(1) or original(*args, **kw)
rng = torch.Generator().manual_seed(0)
for B, h, Nq, Nk, d, dv, dtype, tolerance, triton_attention.BUFFER_BYTES, options in {cases!r}:
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
        error = (a.double() - b).abs().max() / b.abs().max().clamp(min=1)
        assert error < tolerance, (Nq, Nk, dtype, tuple(a.shape), error.item())
'''


def test_kernels_agree_with_dense(repo):
    result = subprocess.run(
        [sys.executable, '-c', SCRIPT.format(cases=CASES)], cwd=repo, text=True, check=False,
        capture_output=True, env={**os.environ, 'TRITON_INTERPRET': '1', 'PYTHONPATH': str(repo)})
    assert result.returncode == 0, result.stderr[-2000:]
