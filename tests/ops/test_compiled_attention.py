"""torch.compile keeps diverse attention as one node, with the same numbers."""
import pytest
import torch

from mmrobust.ops import diverse_attention

pytestmark = pytest.mark.skipif(not hasattr(torch.library, 'custom_op'),
                                reason='operators of our own need torch 2.4')


@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_one_graph_with_the_same_gradients(masked, dtype):
    torch.manual_seed(0)
    tensors = [torch.randn(2, 9, 3, 8).to(dtype).transpose(1, 2).requires_grad_()
               for _ in range(3)]
    if masked:
        tensors.append(torch.rand(3, 9, 9).to(dtype).requires_grad_())

    def loss(q, k, v, mask=None):
        out, column, normalized = diverse_attention(q, k, v, threshold=1.2, logit_mask=mask)
        return out.float().square().mean() + (column * normalized).sum()

    eager = torch.autograd.grad(loss(*tensors), tensors)
    compiled = torch.compile(loss, fullgraph=True, backend='aot_eager')
    for a, b in zip(torch.autograd.grad(compiled(*tensors), tensors), eager, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b)


def test_operator_is_described_truly():
    q, k, v = (torch.randn(2, 3, 9, 8, requires_grad=True) for _ in range(3))
    mask = torch.rand(3, 9, 9, requires_grad=True)
    for inputs in ((q, k, v, None), (q, k, v, mask)):
        torch.library.opcheck(torch.ops.mmrobust.diverse_attention.default,
                              (*inputs, .3, 1.2, 1.2, False))
