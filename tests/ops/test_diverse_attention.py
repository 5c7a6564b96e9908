from functools import partial

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils.checkpoint import checkpoint

from mmrobust.ops import chunked_attention, diverse_attention
from mmrobust.testing import dense_diverse_attention


def inputs(B=2, h=3, Nq=7, Nk=7, d=4, dv=4, masked=False, dtype=torch.float64, seed=0, spread=2.):
    """q, k, v as models have them, views with the heads behind the tokens, and a mask."""
    rng = torch.Generator().manual_seed(seed)

    def tokens(n, channels):
        x = torch.randn(B, n, h, channels, generator=rng, dtype=torch.float64) * spread**.5
        return x.to(dtype).transpose(1, 2).requires_grad_()

    mask = torch.rand(h, Nq, Nk, generator=rng, dtype=torch.float64).to(dtype) - .2
    return [tokens(Nq, d), tokens(Nk, d), tokens(Nk, dv)] + [mask.requires_grad_()] * masked


def run(function, tensors, **options):
    mask = tensors[3] if len(tensors) > 3 else None
    return function(*tensors[:3], logit_mask=mask, **options)


def gradients(outputs, tensors, seed=1):
    rng = torch.Generator().manual_seed(seed)
    loss = sum((o * torch.randn(o.shape, generator=rng, dtype=torch.float64).to(o)).sum()
               for o in outputs)
    return torch.autograd.grad(loss, tensors)


def relative_error(a, b):
    return ((a - b).abs().max() / b.abs().max().clamp(min=1)).item()


def on_the_edge(tensors, options, margin):
    """Whether an entry is so close to a threshold that rounding decides about it."""
    q, k = tensors[0].double(), tensors[1].double()
    logits = q @ k.mT * options.get('scale', q.shape[-1]**-.5)
    if len(tensors) > 3:
        logits = logits * tensors[3]
    mean = logits.softmax(-1).mean(1) * k.shape[2]
    return any((mean - options[name]).abs().min() < margin
               for name in ('threshold', 'column_threshold') if options.get(name))


shapes = st.fixed_dictionaries(dict(
    B=st.integers(1, 3), h=st.integers(1, 4), Nq=st.integers(1, 40), Nk=st.integers(1, 40),
    d=st.integers(1, 9), dv=st.integers(1, 12), masked=st.booleans(), seed=st.integers(0, 999)))
variants = st.fixed_dictionaries(
    dict(threshold=st.sampled_from([0., .7, 2., 5.3, 60.]), strict=st.booleans()),
    optional=dict(column_threshold=st.sampled_from([0., 1.3]), scale=st.floats(.1, 2.)))


@pytest.mark.parametrize('dtype, tolerance', [(torch.float64, 1e-10), (torch.float32, 2e-5)])
def test_agrees_with_dense(dtype, tolerance):

    @settings(max_examples=60, deadline=None)
    @given(shapes, variants, st.sampled_from([
        (4, 1, 1, 1), (7, 500, 500, 200), (5, 1, 1, 2**20), (6, 2**19, 1, 100),
        (32, 2**19, 2**19, 2**20)]))
    def check(shape, options, blocks):
        tensors = inputs(**shape, dtype=dtype)
        assume(not on_the_edge(tensors, options, 1e-4))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(chunked_attention, 'FORWARD_ROWS', blocks[0] + 1)
            patch.setattr(chunked_attention, 'BACKWARD_ROWS', blocks[0])
            patch.setattr(chunked_attention, 'IMAGE_ENTRIES', blocks[1])
            patch.setattr(chunked_attention, 'IMAGES_ENTRIES', blocks[2])
            patch.setattr(chunked_attention, 'STEP_ENTRIES', blocks[3])
            ours = run(diverse_attention, tensors, **options)
            our_gradients = gradients(ours, tensors)
        exact = [t.detach().double().requires_grad_() for t in tensors]
        dense = run(dense_diverse_attention, exact, **options)
        for a, b in zip(ours, dense, strict=True):
            assert a.dtype == dtype and relative_error(a, b) < tolerance
        for a, b in zip(our_gradients, gradients(dense, exact), strict=True):
            assert a.dtype == dtype and relative_error(a, b) < tolerance

    check()


@pytest.mark.parametrize('options', [
    dict(threshold=1.1), dict(threshold=1.4, column_threshold=0., strict=True),
    dict(threshold=.8, column_threshold=1.2, scale=.7)])
@pytest.mark.parametrize('shape', [
    dict(Nq=9, Nk=5), dict(Nq=4, Nk=8, dv=6, masked=True), dict(B=1, h=1)])
def test_gradcheck(shape, options, monkeypatch):
    monkeypatch.setattr(chunked_attention, 'FORWARD_ROWS', 4)
    monkeypatch.setattr(chunked_attention, 'BACKWARD_ROWS', 3)
    monkeypatch.setattr(chunked_attention, 'IMAGE_ENTRIES', 1)
    monkeypatch.setattr(chunked_attention, 'STEP_ENTRIES', 1)
    tensors = inputs(**shape)
    assert torch.autograd.gradcheck(lambda *t: run(diverse_attention, t, **options), tensors)


def test_rows_that_keep_nothing():
    tensors = inputs(B=1, h=1, Nq=3, Nk=4)
    with torch.no_grad():
        tensors[0][:, :, 1] = 0  # its attention is 1/4 everywhere
    out, column_sum, normalized = run(diverse_attention, tensors, threshold=1.01)
    mean = (tensors[0] @ tensors[1].mT * .5).softmax(-1)[0, 0]
    kept = [row * (row >= 1.01 / 4) for row in (mean[0], mean[2])]
    torch.testing.assert_close(column_sum[0], kept[0] + kept[1])
    torch.testing.assert_close(normalized[0], sum(row / row.norm() for row in kept))
    assert all(g.isfinite().all() for g in gradients((out, column_sum, normalized), tensors))
    nothing = run(diverse_attention, tensors, threshold=5)
    assert not nothing[1].any() and not nothing[2].any()
    assert not any(g.any() for g in torch.autograd.grad(nothing[2].sum(), tensors))


@pytest.mark.parametrize('strict, expected', [(False, 1.), (True, 0.)])
@pytest.mark.parametrize('h', [1, 3])
def test_entry_equal_to_threshold(strict, expected, h):
    q = torch.zeros(1, h, 1, 2)
    for tokens in (1, 2):  # attention is exactly 1, then 1/2 twice: the threshold itself
        keys = torch.zeros(1, h, tokens, 2)
        _, column_sum, normalized = diverse_attention(q, keys, keys, threshold=1, strict=strict)
        assert column_sum.sum() == expected
        assert normalized.square().sum().item() == pytest.approx(expected)


def test_only_some_inputs_need_gradients():
    tensors = inputs(masked=True)
    full = gradients(run(diverse_attention, tensors, threshold=1.2), tensors)
    for i in range(len(tensors)):
        alone = [t.detach() for t in tensors]
        alone[i].requires_grad_()
        outputs = run(diverse_attention, alone, threshold=1.2)
        torch.testing.assert_close(gradients(outputs, alone[i:i + 1])[0], full[i])
    for t in tensors:
        t.requires_grad_(False)
    assert not any(o.requires_grad for o in run(diverse_attention, tensors, threshold=1.2))


def test_each_output_alone_and_same_inputs_twice():
    tensors = inputs()
    f = partial(diverse_attention, threshold=1.2)
    for i in range(3):
        ours = torch.autograd.grad(f(*tensors)[i].square().sum(), tensors)
        dense = dense_diverse_attention(*tensors, threshold=1.2)[i]
        for a, b in zip(ours, torch.autograd.grad(dense.square().sum(), tensors,
                                                  allow_unused=True), strict=True):
            torch.testing.assert_close(a, torch.zeros_like(a) if b is None else b)
    once = gradients(f(*tensors), tensors)
    twice = gradients([a + b for a, b in zip(f(*tensors), f(*tensors), strict=True)], tensors)
    for a, b in zip(once, twice, strict=True):
        torch.testing.assert_close(2 * a, b)


def test_under_checkpoint_is_identical_and_deterministic():
    tensors = inputs(dtype=torch.float32)
    f = partial(diverse_attention, threshold=1.2)
    plain = f(*tensors)
    kept = checkpoint(f, *tensors, use_reentrant=False)
    for a, b in zip((*plain, *gradients(plain, tensors)), (*kept, *gradients(kept, tensors)),
                    strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_low_precision_keeps_float32_statistics(dtype):
    if dtype == torch.float16 and not hasattr(torch, 'get_autocast_dtype'):
        pytest.skip('torch before 2.4 casts to float16 on a GPU only')
    tensors = inputs(Nq=33, Nk=33, d=8, dtype=torch.float32)
    low = [t.detach().to(dtype).requires_grad_() for t in tensors]
    with torch.autocast('cpu', dtype):
        autocast = diverse_attention(*tensors, threshold=1.2)
    direct = diverse_attention(*low, threshold=1.2)
    reference = dense_diverse_attention(*[t.double() for t in low], threshold=1.2)
    assert [o.dtype for o in direct] == [dtype, torch.float32, torch.float32]
    for a, b, c in zip(autocast, direct, reference, strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b)
        assert relative_error(b, c) < (1e-2 if b.dtype == dtype else 1e-5)
    grads = gradients(autocast, tensors)
    assert all(g.dtype == torch.float32 for g in grads)
    for a, b in zip(grads, gradients(reference, low), strict=True):
        assert relative_error(a, b) < 3e-2


def test_empty_batch():
    tensors = inputs()
    outputs = diverse_attention(*(t[:0] for t in tensors), threshold=1)
    assert [o.shape for o in outputs] == [(0, 3, 7, 4), (0, 7), (0, 7)]
    assert not any(g.any() for g in gradients(outputs, tensors))


@pytest.mark.parametrize('change, message', [
    (dict(q=torch.zeros(2, 3, 4)), r'must be \(B, h, N, d\)'),
    (dict(k=torch.zeros(2, 3, 5, 8)), 'k and v the tokens'),
    (dict(q=torch.zeros(2, 3, 4, 7)), 'q and k the channels'),
    (dict(logit_mask=torch.zeros(3, 4, 5)), r'= \(3, 4, 6\), got \(3, 4, 5\)')])
def test_shapes_that_do_not_fit(change, message):
    fitting = dict(q=torch.zeros(2, 3, 4, 8), k=torch.zeros(2, 3, 6, 8),
                   v=torch.zeros(2, 3, 6, 8))
    with pytest.raises(ValueError, match=message):
        diverse_attention(**{**fitting, **change}, threshold=2)
