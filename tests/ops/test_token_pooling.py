import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrobust.ops import token_aware_avg_pool
from mmrobust.testing import dense_token_aware_avg_pool


def inputs(B=2, C=3, K=4, H=5, W=7, dtype=torch.float64, seed=0, layout='tokens'):
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(B, C, H, W, generator=rng, dtype=torch.float64).to(dtype)
    weights = torch.randn(B, K, H, W, generator=rng, dtype=torch.float64).softmax(1).to(dtype)
    if layout == 'tokens':
        x = x.contiguous(memory_format=torch.channels_last)
    return [x.requires_grad_(), weights.requires_grad_()]


def gradients(out, tensors):
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return torch.autograd.grad((out * grad.to(out)).sum(), tensors)


@settings(max_examples=80, deadline=None)
@given(st.fixed_dictionaries(dict(
    B=st.integers(1, 3), C=st.integers(1, 20), K=st.integers(1, 6), H=st.integers(1, 20),
    W=st.integers(1, 20), layout=st.sampled_from(['tokens', 'channels']))),
    st.sampled_from([(torch.float64, 1e-12), (torch.float32, 2e-5), (torch.bfloat16, 4e-2)]))
def test_agrees_with_unfold(shape, precision):
    dtype, tolerance = precision
    tensors = inputs(**shape, dtype=dtype)
    exact = [t.detach().double().requires_grad_() for t in tensors]
    out, dense = token_aware_avg_pool(*tensors), dense_token_aware_avg_pool(*exact)
    for a, b in zip((out, *gradients(out, tensors)), (dense, *gradients(dense, exact)),
                    strict=True):
        assert a.dtype == dtype
        assert (a - b).abs().max() <= tolerance * max(1, b.abs().max())


@pytest.mark.parametrize('layout', ['tokens', 'channels'])
@pytest.mark.parametrize('shape', [dict(K=1), dict(H=2, W=3), dict(B=1, C=17, K=3)])
def test_gradcheck(shape, layout):
    assert torch.autograd.gradcheck(token_aware_avg_pool, inputs(**shape, layout=layout))


def test_each_input_alone():
    x, weights = inputs()
    grad_x, grad_weights = gradients(token_aware_avg_pool(x, weights), (x, weights))
    out = token_aware_avg_pool(x, weights.detach())
    torch.testing.assert_close(gradients(out, [x])[0], grad_x)
    out = token_aware_avg_pool(x.detach(), weights)
    torch.testing.assert_close(gradients(out, [weights])[0], grad_weights)


def test_each_branch_is_a_zero_padded_mean():
    x, _ = inputs()
    for k in range(1, 5):
        weights = F.one_hot(torch.full((2, 5, 7), k), 5).permute(0, 3, 1, 2).double()
        box = torch.full((3, 1, 3, 3), 1 / 9, dtype=torch.float64)
        expected = F.conv2d(x, box, padding=k, dilation=k, groups=3)
        torch.testing.assert_close(token_aware_avg_pool(x, weights), expected)


def test_keeps_memory_format_and_only_its_inputs():
    for layout, memory_format in (('tokens', torch.channels_last),
                                  ('channels', torch.contiguous_format)):
        x, weights = inputs(layout=layout)
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(
                lambda t: kept.append(t.data_ptr()) or t, lambda t: t):  # noqa: B023
            out = token_aware_avg_pool(x, weights)
        assert sorted(kept) == sorted([x.data_ptr(), weights.data_ptr()])
        assert out.is_contiguous(memory_format=memory_format)
        grad_x, _ = gradients(out, (x, weights))
        assert grad_x.is_contiguous(memory_format=memory_format)


def test_output_has_the_features_dtype():
    x, weights = inputs(dtype=torch.bfloat16)
    weights = weights.detach().float().requires_grad_()
    out = token_aware_avg_pool(x, weights)
    grad_x, grad_weights = gradients(out, (x, weights))
    assert (out.dtype, grad_x.dtype, grad_weights.dtype) == (
        torch.bfloat16, torch.bfloat16, torch.float32)


@pytest.mark.parametrize('grid', ['', '_rect'])
@pytest.mark.parametrize('K', [4, 5])
def test_agrees_with_the_authors(parity, grid, K):
    stored = parity('tap')
    weights = torch.from_numpy(stored[f'K{K}::weights_eval{grid}'])[:, 0].movedim(-1, 1)
    out = token_aware_avg_pool(torch.from_numpy(stored[f'input{grid}']), weights)
    expected = torch.from_numpy(stored[f'K{K}::mixed_eval{grid}'])
    torch.testing.assert_close(out, expected, atol=2e-6, rtol=0)


def test_compiles_without_graph_break():
    tensors = inputs(K=4)
    compiled = torch.compile(token_aware_avg_pool, fullgraph=True, backend='aot_eager')
    ours, out = compiled(*tensors), token_aware_avg_pool(*tensors)
    torch.testing.assert_close((ours, *gradients(ours, tensors)),
                               (out, *gradients(out, tensors)))


def test_empty_batch():
    x, weights = inputs()
    out = token_aware_avg_pool(x[:0], weights[:0])
    assert out.shape == (0, 3, 5, 7)
    assert not any(g.any() for g in gradients(out, (x, weights)))


def test_shapes_that_do_not_fit():
    x, weights = inputs()
    with pytest.raises(ValueError, match=r'got \(2, 3, 5, 7\) and \(2, 4, 5, 6\)'):
        token_aware_avg_pool(x, weights[..., :6])
