"""RVT against the authors' models at toy size: outputs, attention, TAP weights, ADL, gradients."""
import pytest
import torch
import torch.nn.functional as F
from parity_tools import arrays, meta, to_ours

from mmrobust.models import AttentionDiversificationLoss, TokenAwareAvgPooling, listening
from mmrobust.models.backbones.rvt import FFN, RVT, ConvFFN, PoolingPatchEmbed, TokenPooling

FIXTURES = ['rvt_64', 'taprvt_64', 'taprvt_plus_64']


class MapRecorder:
    """Keeps the attention matrices themselves."""

    def __init__(self):
        self.maps = []

    def attend(self, q, k, v, *, scale, logit_mask, layer):
        logits = scale * q @ k.transpose(-2, -1)
        self.maps.append((logits if logit_mask is None else logits * logit_mask).softmax(-1))
        return self.maps[-1] @ v


def close(ours, theirs, tolerance):
    bound = tolerance * max(1., theirs.abs().max().item())
    torch.testing.assert_close(ours, theirs, rtol=0, atol=bound)


def build_rvt(fixture, **kwargs):
    args = meta(fixture)['kwargs']
    arch = dict(embed_dims=[b * h for b, h in zip(args['base_dims'], args['heads'], strict=True)],
                depths=args['depth'], num_heads=args['heads'],
                masked_blocks=args.get('masked_block', 0))
    tap = dict(num_branches=args['num_scales']) if 'num_scales' in args else None
    model = RVT(arch, tap=tap, out_type='avg_featmap', **kwargs)
    model.load_state_dict({to_ours(k): v for k, v in arrays(fixture, 'sd').items()
                           if not k.startswith('head.')})
    return model


@pytest.fixture(params=FIXTURES)
def fixture(request, parity):
    return parity(request.param)


def logits(fixture, model):
    weights = arrays(fixture, 'sd')
    feature, = model(torch.from_numpy(fixture['input']))
    return F.linear(feature, weights['head.weight'], weights['head.bias'])


def expected(fixture, key):
    return torch.as_tensor(fixture[key])


@torch.no_grad()
def test_outputs_attention_and_branch_weights(fixture):
    model = build_rvt(fixture).eval()
    weights = []
    for module in model.modules():
        if isinstance(module, TokenAwareAvgPooling):
            module.register_forward_hook(
                lambda m, args, _: weights.append(m.branch_weights(args[0])))
    close(logits(fixture, model), expected(fixture, 'logits'), 2e-5)
    recorder = MapRecorder()
    with listening(recorder):
        close(logits(fixture, model), expected(fixture, 'logits'), 2e-5)
    maps = [k for k in fixture.files if k.startswith('attn')]
    assert len(recorder.maps) == sum(meta(fixture)['kwargs']['depth'])
    for key in maps:
        close(recorder.maps[int(key[4:])], expected(fixture, key), 2e-5)
        given = weights[int(key[4:])][:, None].permute(0, 1, 3, 4, 2)
        close(given, expected(fixture, f'tapw{key[4:]}'), 2e-5)


@torch.no_grad()
@pytest.mark.parametrize('tau', [1, 2])
@pytest.mark.parametrize('name', FIXTURES[1:])
def test_official_adl(parity, name, tau):
    fixture = parity(name)
    loss = AttentionDiversificationLoss(tau=tau, variant='official')
    for training, prefix in ((False, ''), (True, 'train_')):
        model = build_rvt(fixture).train(training)
        with loss.listen() as records:
            logits(fixture, model)
        close(loss(records), expected(fixture, f'{prefix}adl_th{tau}'), 2e-5)


@pytest.mark.parametrize('with_cp', [False, True])
def test_training_gradients_and_running_statistics(fixture, with_cp):
    model = build_rvt(fixture, with_cp=with_cp).train()
    loss = AttentionDiversificationLoss(variant='official')
    with loss.listen() as records:
        output = logits(fixture, model)
    close(output, expected(fixture, 'train_logits'), 2e-5)
    objective = output.square().sum()
    if 'ADL' in meta(fixture)['objective']:
        objective = objective + loss(records)
    close(objective, expected(fixture, 'train_loss'), 2e-5)
    objective.backward()
    assert compare_gradients(fixture, model, 'grad') >= 4
    for key, theirs in arrays(fixture, 'after').items():
        close(model.state_dict()[to_ours(key)], theirs, 2e-5)


def compare_gradients(fixture, model, kind):
    parameters = dict(model.named_parameters())
    theirs = {to_ours(k): v for k, v in arrays(fixture, kind).items() if not k.startswith('head')}
    for key, gradient in theirs.items():
        close(parameters[key].grad, gradient, 1e-4)
    return len(theirs)


@pytest.mark.parametrize('name', FIXTURES[1:])
def test_adl_gradient_alone(parity, name):
    fixture = parity(name)
    model = build_rvt(fixture).train()
    loss = AttentionDiversificationLoss(variant='official')
    with loss.listen() as records:
        logits(fixture, model)
    loss(records).backward()
    assert compare_gradients(fixture, model, 'grad_adl') == 3


@pytest.mark.parametrize('name, build, hw', [
    ('rvt_conv_embedding', lambda: PoolingPatchEmbed(3, 24), ()),
    ('rvt_head_pooling', lambda: TokenPooling(8, 16), (8, 8)),
    ('mlp_conv', lambda: ConvFFN(24, 96), (4, 4)),
    ('mlp768_linear', lambda: FFN(768, 16), (2, 2)),
])
def test_units(parity, name, build, hw):
    fixture = parity('units')
    x = torch.from_numpy(fixture[f'{name}::input'])
    if name == 'rvt_head_pooling':
        x = x.flatten(2).transpose(1, 2)
    modes = [('_eval', False), ('_train', True)] if name != 'mlp768_linear' else [('', False)]
    for suffix, training in modes:
        module = build().train(training)
        module.load_state_dict(arrays(fixture, f'{name}::sd'))
        output = module(x, hw) if hw else module(x)
        if name == 'rvt_head_pooling':
            output = output[0].transpose(1, 2).unflatten(-1, output[1])
        key = next(k for k in (f'{name}::out{suffix}', f'{name}::out0{suffix}')
                   if k in fixture.files)
        close(output, expected(fixture, key), 2e-5)
