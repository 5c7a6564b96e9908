"""FAN against the authors' models at toy size: outputs, attention, TAP weights, ADL, gradients."""
import pytest
import torch
import torch.nn.functional as F
from parity_tools import arrays, build_fan, meta, to_ours

from mmrobust.models import AttentionDiversificationLoss, TokenAwareAvgPooling, attend, listening
from mmrobust.testing import dense_diverse_attention

FIXTURES = ['fan_hybrid_64', 'fan_vit_64', 'tapfan_hybrid_64', 'tapfan_vit_64',
            'seg_tapfan_hybrid_64', 'seg_tapfan_vit_64']


class MapRecorder:
    """Keeps the attention matrices themselves."""

    def __init__(self):
        self.maps = []

    def attend(self, q, k, v, *, scale, logit_mask, layer):
        self.maps.append((scale * q @ k.transpose(-2, -1)).softmax(-1))
        return self.maps[-1] @ v


def close(ours, theirs, tolerance):
    theirs = torch.as_tensor(theirs)
    bound = tolerance * max(1., theirs.abs().max().item())
    torch.testing.assert_close(ours, theirs, rtol=0, atol=bound)


@pytest.fixture(params=FIXTURES)
def case(request, parity):
    """Fixture, its arrays of ordinary layer normalisation, and our model."""
    fixture = parity(request.param)
    plain = arrays(fixture, 'lnb')

    def expected(key):
        return plain[key] if key in plain else torch.from_numpy(fixture[key])

    return fixture, expected, build_fan(fixture)


def outputs(fixture, model, expected, prefix):
    """Pairs of our outputs and the authors'."""
    features = model(torch.from_numpy(fixture['input']))
    if meta(fixture)['kind'] == 'seg':
        return [(f, expected(f'{prefix}feat{i}')) for i, f in enumerate(features)]
    head = arrays(fixture, 'sd')
    return [(F.linear(features[0], head['head.weight'], head['head.bias']),
             expected(f'{prefix}logits'))]


def test_eval(case):
    fixture, expected, model = case
    model.eval()
    with torch.no_grad():
        pairs = outputs(fixture, model, expected, '')
        assert pairs
        for ours, theirs in pairs:
            close(ours, theirs, 2e-5)


def test_attention_maps_and_branch_weights(case):
    fixture, expected, model = case
    model.eval()
    weights = []
    for module in model.modules():
        if isinstance(module, TokenAwareAvgPooling):
            module.register_forward_hook(
                lambda m, args, _: weights.append(m.branch_weights(args[0])))
    recorder = MapRecorder()
    with torch.no_grad(), listening(recorder):
        model(torch.from_numpy(fixture['input']))
    assert len(recorder.maps) == len(model.blocks)
    for i, ours in enumerate(recorder.maps):
        if f'attn{i}' in fixture.files:
            close(ours, expected(f'attn{i}'), 2e-5)
    for i, ours in enumerate(weights):
        close(ours[:, None].permute(0, 1, 3, 4, 2), expected(f'tapw{i}'), 2e-5)


@pytest.mark.parametrize('tau', [1, 2])
def test_official_adl(case, tau):
    fixture, expected, model = case
    if f'adl_th{tau}' not in fixture.files:
        pytest.skip('the authors offer no ADL on the plain model')
    loss = AttentionDiversificationLoss(tau=tau, variant='official')
    for mode, prefix in ((False, ''), (True, 'train_')):
        fresh = build_fan(fixture).train(mode)
        with torch.no_grad(), loss.listen() as records:
            fresh(torch.from_numpy(fixture['input']))
        close(loss(records), expected(f'{prefix}adl_th{tau}'), 2e-5)


def test_training_gradients_and_running_statistics(case):
    fixture, expected, model = case
    model.train()
    loss = AttentionDiversificationLoss(variant='official')
    with loss.listen() as records:
        pairs = outputs(fixture, model, expected, 'train_')
    for ours, theirs in pairs:
        close(ours, theirs, 2e-5)
    if meta(fixture)['kind'] == 'seg':
        objective = sum(ours.square().mean() for ours, _ in pairs)
    else:
        objective = sum(ours.square().sum() for ours, _ in pairs)
    if 'ADL' in meta(fixture)['objective']:
        objective = objective + loss(records)
    close(objective, expected('train_loss'), 2e-5)
    objective.backward()

    assert compare_gradients(fixture, model, expected, 'grad') >= 5
    for key in arrays(fixture, 'after'):
        close(model.state_dict()[to_ours(key)].float(), expected(f'after::{key}').float(), 2e-5)


def compare_gradients(fixture, model, expected, kind):
    """Compare the stored gradients with ours; returns how many there were."""
    parameters = dict(model.named_parameters())
    keys = [k for k in arrays(fixture, kind) if to_ours(k) in parameters]
    for key in keys:
        parameter, theirs = parameters[to_ours(key)], expected(f'{kind}::{key}')
        if parameter.requires_grad:
            close(parameter.grad, theirs, 1e-4)
        else:  # maps do not depend on the class token
            assert not theirs.any()
    return len(keys)


def test_adl_gradient_alone(case):
    fixture, expected, model = case
    if not any(k.startswith('grad_adl::') for k in fixture.files):
        pytest.skip('the authors offer no ADL on the plain model')
    loss = AttentionDiversificationLoss(variant='official')
    with loss.listen() as records:
        model.train()(torch.from_numpy(fixture['input']))
    loss(records).backward()
    assert compare_gradients(fixture, model, expected, 'grad_adl') == 4


@pytest.mark.parametrize('variant', ['paper', 'official'])
@pytest.mark.parametrize('tau', [1, 2, 4])
@pytest.mark.parametrize('case_name', ['a', 'b', 'c', 'd', 'e_uniform', 'f_mixedN', 'g_batch1'])
def test_loss_on_given_attention(parity, variant, tau, case_name):
    """The loss of attention matrices themselves, through queries whose softmax they are."""
    fixture = parity('adl')
    maps = [torch.from_numpy(fixture[k]).double()
            for k in sorted(fixture.files) if k.startswith(f'{case_name}::attn')]
    if case_name == 'e_uniform' and tau == 1:
        pytest.skip('every entry ties with the threshold: decided by rounding')
    for heads in ('mean', 'per_head'):
        loss = AttentionDiversificationLoss(tau=tau, variant=variant, heads=heads)
        inputs = [m.log().requires_grad_() for m in maps]
        with loss.listen() as records:
            for logits in inputs:
                eye = torch.eye(logits.shape[-1], dtype=torch.float64).expand_as(logits)
                attend(logits, eye, eye, scale=1.)
        value = loss(records)
        if variant == 'paper':
            name = 'paper' if heads == 'mean' else 'paper_perhead'
            close(value.double(), fixture[f'f64::{case_name}::{name}_th{tau}'], 1e-7)
        elif heads == 'mean' and case_name != 'g_batch1':
            close(value.float(), fixture[f'{case_name}::official_th{tau}'], 2e-5)
            value.backward()
            for i, (logits, attention) in enumerate(zip(inputs, maps, strict=True)):
                key = f'{case_name}::official_th{tau}::grad_attn{i}'
                if key in fixture.files:
                    # chain rule of the softmax from their gradient to ours
                    given = torch.from_numpy(fixture[key]).double()
                    inner = (given * attention).sum(-1, keepdim=True)
                    close(logits.grad, attention * (given - inner), 1e-6)


def test_dense_definition_is_the_papers(parity):
    """The reference that other tests compare with reproduces the stored float64 values."""
    fixture = parity('adl')
    attention = torch.from_numpy(fixture['c::attn0']).double()
    eye = torch.eye(attention.shape[-1], dtype=torch.float64).expand_as(attention)
    _, v, u = dense_diverse_attention(attention.log(), eye, eye, threshold=2., scale=1.)
    value = ((v * u).sum(-1) / v.norm(dim=-1) / attention.shape[-2]).mean()
    close(value, fixture['f64::c::paper_th2_per_layer'][0], 1e-8)
