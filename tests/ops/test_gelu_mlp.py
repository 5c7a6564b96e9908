"""The MLP that keeps its hidden map once equals linear, GELU, linear."""
import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from mmrobust.ops import gelu_mlp
from mmrobust.ops.gelu_mlp import BLOCK_ROWS


def make(*shape, hidden=12, out=5, dtype=torch.float64):
    torch.manual_seed(0)
    width = shape[-1]
    sizes = shape, (hidden, width), (hidden,), (out, hidden), (out,)
    return [torch.randn(*size, dtype=dtype).requires_grad_() for size in sizes]


def dense(x, weight1, bias1, weight2, bias2):
    return F.linear(F.gelu(F.linear(x, weight1, bias1)), weight2, bias2)


def gradients(function, tensors):
    out = function(*tensors)
    return out, torch.autograd.grad(out, tensors, torch.linspace(-1, 1, out.numel(),
                                                                 dtype=out.dtype).view_as(out))


def test_gradcheck():
    assert gradcheck(gelu_mlp, make(2, 3, 4))


@pytest.mark.parametrize('shape', [
    (1, 4), (2, BLOCK_ROWS // 2, 4), (2, BLOCK_ROWS + 3, 4), (2, 3, 5, 4), (0, 4)])
def test_against_plain_layers(shape):
    tensors = make(*shape)
    ours, theirs = gradients(gelu_mlp, tensors), gradients(dense, tensors)
    torch.testing.assert_close(ours[0], theirs[0], rtol=0, atol=1e-10)
    for a, b in zip(ours[1], theirs[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_autocast():
    tensors = make(3, BLOCK_ROWS, 4, dtype=torch.float32)
    with torch.autocast('cpu', torch.bfloat16):
        ours, theirs = gradients(gelu_mlp, tensors), gradients(dense, tensors)
    assert ours[0].dtype == theirs[0].dtype == torch.bfloat16
    for a, b in zip((ours[0], *ours[1]), (theirs[0], *theirs[1]), strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=.05, atol=.05 * b.abs().max().item())


def test_keeps_the_hidden_map_once():
    kept = []
    x, *weights = make(10, 4, hidden=64)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t,
                                                  lambda t: t):
        gelu_mlp(x, *weights)
    assert sum(n == 640 for n in kept) == 1


def test_compiles_without_graph_break():
    x, *weights = make(10, 4, dtype=torch.float32)
    compiled = torch.compile(gelu_mlp, fullgraph=True, backend='aot_eager')
    torch.testing.assert_close(compiled(x, *weights), dense(x, *weights))
