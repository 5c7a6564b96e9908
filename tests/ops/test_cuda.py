"""The kernels on a GPU, against float64: every type, ragged sizes, gradients by themselves.

Errors are relative to the size of what is compared, not to 1.
"""
import pytest
import torch
import torch.nn.functional as F

from mmrobust.ops import diverse_attention, token_aware_avg_pool
from mmrobust.testing import dense_diverse_attention, dense_token_aware_avg_pool

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no GPU')

SHAPES = [(2, 4, 130, 200, 56, 40), (1, 8, 300, 300, 64, 64), (1, 2, 1, 1, 8, 8),
          (2, 3, 65, 33, 48, 48), (1, 2, 257, 129, 20, 20), (3, 8, 256, 256, 56, 56)]
TOLERANCES = {torch.float32: 2e-5, torch.float16: 1e-3, torch.bfloat16: 6e-3}
WIDE = (1, 2, 100, 100, 128, 128)


def tokens(B, h, Nq, Nk, d, dv, dtype):
    torch.manual_seed(0)
    return [(1.4 * torch.randn(B, n, h, c, device='cuda')).to(dtype).transpose(1, 2)
            .requires_grad_() for n, c in ((Nq, d), (Nk, d), (Nk, dv))]


def error(a, b):
    return ((a.double() - b).norm() / b.norm()).item() if b.any() else a.abs().max().item()


@pytest.mark.parametrize('dtype', TOLERANCES, ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize('options', [
    dict(threshold=2.), dict(threshold=1.3, column_threshold=0., strict=True, scale=.2)])
@pytest.mark.parametrize('shape', [*SHAPES, WIDE], ids=lambda shape: 'x'.join(map(str, shape)))
def test_attention(shape, options, dtype):
    if shape is WIDE and dtype == torch.float32:
        pytest.skip('wide heads in float32 are computed in blocks')
    inputs = tokens(*shape, dtype)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    ours = diverse_attention(*inputs, **options)
    dense = dense_diverse_attention(*exact, **options)
    for a, b in zip(ours, dense, strict=True):
        assert error(a, b) < TOLERANCES[dtype]
    weights = [torch.randn_like(x) for x in dense]
    for part in (slice(0, 3), slice(1, 3)):  # all, and the statistics alone
        grads = [w.to(x.dtype) for w, x in zip(weights[part], ours[part], strict=True)]
        found = torch.autograd.grad(ours[part], inputs[:2], grads, retain_graph=True)
        wanted = torch.autograd.grad(dense[part], exact[:2], weights[part], retain_graph=True)
        for a, b in zip(found, wanted, strict=True):
            assert error(a, b) < TOLERANCES[dtype]


@pytest.mark.parametrize('scale', [1e-6, 1e4])
def test_small_gradients_survive_float16(scale):
    inputs = tokens(1, 8, 300, 300, 64, 64, torch.float16)
    statistics = diverse_attention(*inputs, threshold=2.)[1:]
    grads = [torch.randn_like(x) * scale for x in statistics]
    exact = [x.detach().double().requires_grad_() for x in inputs]
    wanted = torch.autograd.grad(dense_diverse_attention(*exact, threshold=2.)[1:], exact[:2],
                                 [x.double() for x in grads])
    found = torch.autograd.grad(statistics, inputs[:2], grads)
    for a, b in zip(found, wanted, strict=True):
        if b.abs().max() < 6e4 and b.abs().max() > 1e-4:  # what float16 can say at all
            assert error(a, b) < 2e-3


@pytest.mark.parametrize('dtype', TOLERANCES, ids=lambda dtype: str(dtype)[6:])
def test_listening_changes_no_bit_of_the_output(dtype):
    q, k, v = tokens(2, 8, 256, 256, 56, 56, dtype)
    out = diverse_attention(q, k, v, threshold=2.)[0]
    assert torch.equal(out, F.scaled_dot_product_attention(q, k, v))


def test_results_repeat():
    inputs = tokens(2, 8, 300, 300, 56, 56, torch.bfloat16)

    def run():
        outputs = diverse_attention(*inputs, threshold=2.)[1:]
        return *outputs, *torch.autograd.grad(sum(x.square().sum() for x in outputs), inputs[:2])

    assert all(torch.equal(a, b) for a, b in zip(run(), run(), strict=True))


def test_many_passes_through_the_buffer(monkeypatch):
    from mmrobust.ops import triton_statistics
    inputs = tokens(3, 2, 200, 150, 32, 32, torch.float32)
    once = diverse_attention(*inputs, threshold=2.)
    grads = torch.autograd.grad(once[1].sum() + once[2].square().sum(), inputs[:2])
    monkeypatch.setattr(triton_statistics, 'BUFFER_BYTES', 2**15)
    often = diverse_attention(*inputs, threshold=2.)
    again = torch.autograd.grad(often[1].sum() + often[2].square().sum(), inputs[:2])
    for a, b in zip((*often, *again), (*once, *grads), strict=True):
        assert error(a, b.double()) < 2e-6


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_compiled_without_graph_breaks(dtype):
    inputs = tokens(2, 4, 100, 100, 32, 32, dtype)

    def loss(q, k, v):
        out, column, normalized = diverse_attention(q, k, v, threshold=2.)
        return out.float().square().mean() + (column * normalized).sum() / 100

    grads = torch.autograd.grad(loss(*inputs), inputs)
    compiled = torch.autograd.grad(torch.compile(loss, fullgraph=True)(*inputs), inputs)
    for a, b in zip(compiled, grads, strict=True):
        assert error(a, b.double()) < (1e-5 if dtype == torch.float32 else 2e-2)


@pytest.mark.parametrize('dtype', TOLERANCES, ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize('shape, branches', [((2, 70, 5, 7), 4), ((1, 3, 2, 1), 3),
                                             ((2, 448, 33, 20), 4), ((2, 8, 4, 6), 1)])
@pytest.mark.parametrize('memory_format', [torch.channels_last, torch.contiguous_format])
def test_pooling(shape, branches, memory_format, dtype):
    torch.manual_seed(0)
    x = torch.randn(shape, device='cuda', dtype=dtype).contiguous(memory_format=memory_format)
    weights = torch.randn(shape[0], branches, *shape[2:], device='cuda').softmax(1).to(dtype)
    inputs = [x.requires_grad_(), weights.requires_grad_()]
    exact = [t.detach().double().requires_grad_() for t in inputs]
    ours, dense = token_aware_avg_pool(*inputs), dense_token_aware_avg_pool(*exact)
    assert ours.is_contiguous(memory_format=memory_format)
    grad = torch.randn_like(dense)
    found = ours, *torch.autograd.grad(ours, inputs, grad.to(dtype))
    wanted = dense, *torch.autograd.grad(dense, exact, grad.to(dtype).double())
    for a, b in zip(found, wanted, strict=True):
        assert error(a, b) < TOLERANCES[dtype]
