"""The authors' checkpoints become ours, and ours theirs, and the numbers stay the same."""
import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmrobust.checkpoints import from_official, load_foreign, recognise, to_official
from mmrobust.checkpoints.recognition import FAN_ARCHS, RVT_ARCHS

PARITY = Path(__file__).resolve().parents[2] / 'shared' / 'parity'
KEY_LISTS = sorted(PARITY.glob('keys_*.json'))
UNSUPPORTED = {'fan_small_12_p16_224_se_attn': 'squeeze-and-excitation'}
TOOL = Path(__file__).resolve().parents[1] / 'tools' / 'converters' / 'convert_official.py'

needs_key_lists = pytest.mark.skipif(
    not KEY_LISTS, reason='the reference data beside the checkout is absent')


def run_tool(monkeypatch, *args, expect=0):
    monkeypatch.setattr(sys, 'argv', [TOOL.name, *map(str, args)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(TOOL), run_name='__main__')
    assert end.value.code == expect


def build(config: dict):
    """The model, whatever the default scope that another test left behind."""
    scope = config['type'].split('.')[0] if '.' in config['type'] else None
    with DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(config)


def weights_of(key_list: Path) -> dict[str, torch.Tensor]:
    """Tensors without memory that have the keys and shapes of a list."""
    shapes = json.loads(key_list.read_text())['state_dict']
    return {k: torch.empty(shape, device='meta') for k, shape in shapes.items()}


def random_weights(shapes: dict) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {k: torch.rand(shape, generator=generator) if shape else torch.tensor(3)
            for k, shape in shapes.items()}


def toy(**changes) -> dict[str, torch.Tensor]:
    """Random weights of a small FAN-ViT with the authors' names."""
    model = build(dict(
        type='FAN', arch=dict(embed_dims=(16,), depths=(2,), num_heads=(2,), patch_embed='conv',
                              patch_size=16), tap=dict(num_branches=2), out_type='cls_token'))
    weights = to_official({f'backbone.{k}': v for k, v in model.state_dict().items()}).state_dict
    return {**weights, 'head.weight': torch.rand(7, 16), 'head.bias': torch.rand(7), **changes}


def segmentor(classes=19, width=768) -> dict[str, torch.Tensor]:
    """Random weights of a whole segmentor of the authors', with their unused layer."""
    weights = {f'backbone.{k}': v for k, v in toy().items() if not k.startswith(('head', 'norm.'))}
    head = {f'linear_c{i}.proj.weight': (width, 16) for i in range(1, 5)}
    head |= {f'linear_c{i}.proj.bias': (width,) for i in range(1, 5)}
    head |= {'linear_fuse.conv.weight': (width, 4 * width, 1, 1)}
    head |= {f'linear_fuse.bn.{k}': (width,)
             for k in ('weight', 'bias', 'running_mean', 'running_var')}
    head |= {'linear_fuse.bn.num_batches_tracked': (), 'linear_pred.bias': (classes,),
             'linear_pred.weight': (classes, width, 1, 1), 'conv_seg.weight': (19, 256, 1, 1),
             'conv_seg.bias': (19,)}
    return weights | random_weights({f'decode_head.{k}': v for k, v in head.items()})


@needs_key_lists
@pytest.mark.parametrize('key_list', KEY_LISTS, ids=lambda p: p.stem)
def test_every_published_key_list(key_list):
    info = json.loads(key_list.read_text())
    weights = weights_of(key_list)
    if reason := UNSUPPORTED.get(info['model']):
        with pytest.raises(ValueError, match=reason):
            from_official(dict(state_dict=weights))
        return
    conversion = from_official(dict(state_dict={f'module.{k}': v for k, v in weights.items()}))
    found = conversion.recognition
    expected = dict(tiny='tiny', small='small', base='base', large='large', Xlarge='xlarge')
    size = next(v for k, v in expected.items() if f'_{k}_' in f'_{info["model"]}_')
    assert found.backbone['arch'].startswith(size)
    assert ('hybrid' in found.backbone['arch']) == ('hybrid' in info['model'])
    assert ('_plus' in found.backbone['arch']) == ('_plus' in info['model'])
    assert ('tap' in found.backbone) == ('tap_' in info['model'])
    assert found.backbone.get('paired_frequencies', True) == (not key_list.stem.startswith(
        'keys_seg'))

    with torch.device('meta'):
        model = build(found.config)
    ours = conversion.state_dict
    if found.head is None:
        ours = {k.removeprefix('backbone.'): v for k, v in ours.items()}
    model.load_state_dict(ours, strict=True, assign=True)
    assert sum(p.numel() for p in model.parameters()) == info['num_parameters']

    back = to_official(conversion.state_dict).state_dict
    assert back.keys() == weights.keys()
    assert all(back[k] is weights[k] for k in weights)


def test_names_of_sizes_are_the_backbones_own():
    from mmrobust.models.backbones.fan import FAN
    from mmrobust.models.backbones.rvt import RVT
    for (kind, widths, depths), name in FAN_ARCHS.items():
        arch = FAN.arch_zoo[name]
        assert (arch['patch_embed'], arch['embed_dims'], arch['depths']) == (kind, widths, depths)
    for (widths, depths), name in RVT_ARCHS.items():
        assert (RVT.arch_zoo[name]['embed_dims'], RVT.arch_zoo[name]['depths']) == (widths, depths)
    assert set(FAN_ARCHS.values()) == FAN.arch_zoo.keys()


@needs_key_lists
@pytest.mark.parametrize('suffixes', [('.pth', '.safetensors'), ('.pth.tar', '.pth'),
                                      ('.safetensors', '.pth')])
def test_tool_there_and_back_through_files(tmp_path, monkeypatch, capsys, suffixes):
    shapes = json.loads((PARITY / 'keys_tap_fan_tiny_8_p4_hybrid.json').read_text())['state_dict']
    weights = random_weights(shapes)
    source, target = tmp_path / f'a{suffixes[0]}', tmp_path / f'b{suffixes[1]}'
    if suffixes[0] == '.safetensors':
        from safetensors.torch import save_file
        save_file(weights, source)
    else:
        torch.save(dict(state_dict={k: v + 1 for k, v in weights.items()},
                        state_dict_ema={f'module.{k}': v for k, v in weights.items()}), source)
    run_tool(monkeypatch, source, target)
    printed = capsys.readouterr().out
    assert 'FAN tiny_hybrid, TAP (K = 4), classification' in printed
    model_line = next(line for line in printed.splitlines() if line.startswith('model = '))
    model = build(eval(model_line.removeprefix('model = ')))
    checkpoint = load_foreign(target)
    model.load_state_dict(checkpoint['state_dict'], strict=True)
    assert checkpoint['meta']['converted_from'] == source.name

    back = tmp_path / f'c{suffixes[0]}'
    run_tool(monkeypatch, target, back, '--to-official')
    theirs = load_foreign(back)['state_dict']
    assert theirs.keys() == weights.keys()
    assert all(torch.equal(theirs[k], weights[k]) for k in weights)


@pytest.mark.parametrize('config, key_list', [
    ('fan_t_imagenet', 'fan_tiny_8_p4_hybrid'), ('fan_s_imagenet', 'fan_small_12_p4_hybrid'),
    ('fan_b_imagenet', 'fan_base_16_p4_hybrid'), ('fan_l_imagenet', 'fan_large_16_p4_hybrid'),
    ('fan_b_tap_adl_imagenet', 'tap_fan_base_16_p4_hybrid'),
    ('fan_b_afat_imagenet', 'fan_base_16_p4_hybrid'),
    ('rvt_t_plus_imagenet', 'rvt_tiny_plus'), ('rvt_s_plus_imagenet', 'rvt_small_plus'),
    ('rvt_t_afat_patch_reasoning_imagenet', 'rspc_rvt_tiny_plus_afat'),
    ('rvt_s_afat_imagenet', 'rvt_small_plus'),
    ('rvt_b_afat_patch_reasoning_imagenet', 'rspc_rvt_base_plus_afat'),
    ('fan_b_cityscapes', 'seg_fan_base_16_p4_hybrid'),
    ('fan_b_tap_adl_cityscapes', 'seg_tap_fan_base_16_p4_hybrid'),
])
def test_configs_take_the_converted_weights(repo, shared, config, key_list):
    weights = from_official(weights_of(shared / 'parity' / f'keys_{key_list}.json')).state_dict
    backbone = Config.fromfile(repo / 'configs' / f'{config}.py').model.backbone
    with torch.device('meta'):
        expected = build(backbone).state_dict()
    given = {k.removeprefix('backbone.'): v.shape for k, v in weights.items()
             if k.startswith('backbone.')}
    assert given == {k: v.shape for k, v in expected.items()}


def test_model_index(repo):
    (path,) = yaml.safe_load((repo / 'model-index.yml').read_text())['Import']
    index = yaml.safe_load((repo / path).read_text())
    collections = {c['Name'] for c in index['Collections']}
    assert len({m['Name'] for m in index['Models']}) == len(index['Models']) >= 20
    for model in index['Models']:
        assert (repo / model['Config']).is_file()
        assert model['In Collection'] in collections
        assert model['Convert'] == ('python tools/converters/convert_official.py SRC '
                                    f'checkpoints/{model["Name"]}.pth')
        assert (repo / model['Convert'].split()[1]).is_file()
        assert model.get('Weights', 'https://x.pth').startswith('https://')
        published = 'published, not measured' in model['Metadata']['Figures']
        assert published == bool(model.get('Results'))


def test_dry_run_writes_nothing(tmp_path, monkeypatch, capsys):
    torch.save(dict(model=toy()), tmp_path / 'a.pth')
    run_tool(monkeypatch, tmp_path / 'a.pth', '--dry-run')
    printed = capsys.readouterr().out
    assert ('blocks.1.dilation_predictor.proj.0.weight -> '
            'backbone.blocks.1.tap.predictor.0.weight') in printed
    assert 'head.weight -> head.fc.weight' in printed
    assert [p.name for p in tmp_path.iterdir()] == ['a.pth']


def test_tool_fails_with_one_sentence(tmp_path, monkeypatch, capsys):
    torch.save(dict(state_dict=dict(conv1=torch.ones(1))), tmp_path / 'a.pth')
    run_tool(monkeypatch, tmp_path / 'a.pth', tmp_path / 'b.pth', expect=1)
    assert re.search('neither FAN nor RVT.*conv1$', capsys.readouterr().err)
    assert not (tmp_path / 'b.pth').exists()


def test_our_own_checkpoint_is_not_converted():
    with pytest.raises(ValueError, match='names of mmrobust already.*--to-official'):
        from_official(dict(state_dict=from_official(dict(model=toy())).state_dict))


def test_choice_of_weights():
    ema, model = toy(), toy()
    checkpoint = dict(state_dict=model, state_dict_ema=ema)
    for choice, expected in (('auto', ema), ('ema', ema), ('model', model)):
        converted = from_official(checkpoint, choice).state_dict
        assert converted['head.fc.bias'] is expected['head.bias']
    deit = from_official(dict(model=model, model_ema=ema, args=None))
    assert deit.source == 'model_ema'
    assert from_official(model).state_dict['head.fc.bias'] is model['head.bias']
    with pytest.raises(ValueError, match='no ema weights .state_dict_ema.*it holds state_dict'):
        from_official(dict(state_dict=model), 'ema')


def test_own_size_other_classes_and_harmless_leftovers():
    weights = toy(**{'blocks.0.attn.total_ops': torch.ones(1), 'total_params': torch.ones(1)})
    conversion = from_official(dict(state_dict=weights))
    assert conversion.ignored == ['blocks.0.attn.total_ops', 'total_params']
    found = conversion.recognition
    assert found.backbone['arch'] == dict(embed_dims=(16,), depths=(2,), num_heads=(2,),
                                          patch_embed='conv', patch_size=16)
    assert found.head['num_classes'] == 7
    model = build(found.config)
    model.load_state_dict(conversion.state_dict, strict=True)


@pytest.mark.parametrize('changes, message', [
    (dict(extra=torch.ones(1)), 'has no place for 1 of the weights, such as backbone.extra'),
    ({'blocks.1.norm1.bias': torch.ones(5)}, 'another shape of 1 .* backbone.blocks.1.norm1.bias'),
    ({'head.bias': torch.ones(5)}, 'another shape of 1 .* head.fc.bias'),
    ({'blocks.0.mlp.se.conv_reduce.weight': torch.ones(1)}, 'se_attn.* not supported'),
    ({'learnable_downsample.weight': torch.ones(1)}, 'learnable downsampling'),
    ({'layers.0.blocks.0.norm1.weight': torch.ones(1)}, 'Swin'),
    ({'norm.weight': 'text'}, "other than a tensor at 'norm.weight'"),
])
def test_refusals(changes, message):
    with pytest.raises(ValueError, match=message):
        from_official(dict(state_dict=toy(**changes)))


@pytest.mark.parametrize('missing, message', [
    ('blocks.1.mlp.q.bias', 'misses 1 of the weights, such as backbone.blocks.1.mlp.q.bias'),
    ('blocks.1.mlp.temperature', "incomplete: 'blocks.1.mlp.temperature' is missing"),
])
def test_incomplete_weights_are_refused(missing, message):
    weights = toy()
    del weights[missing]
    with pytest.raises(ValueError, match=message):
        from_official(weights)


@pytest.mark.parametrize('checkpoint, message', [
    ([1], 'holds a list, not a dictionary'),
    (dict(epoch=3), 'no model weights .*it holds epoch'),
    ({}, 'it holds nothing'),
])
def test_files_without_weights(checkpoint, message):
    with pytest.raises(ValueError, match=message):
        from_official(checkpoint)


def test_segmentor_comes_with_its_head_and_encoding():
    weights = segmentor()
    conversion = from_official(dict(state_dict=weights, meta={}))
    assert set(conversion.ignored) == {'decode_head.conv_seg.weight', 'decode_head.conv_seg.bias'}
    head = conversion.recognition.head
    assert (head['num_classes'], head['channels'], head['in_channels']) == (19, 768, [16] * 4)
    model = build(conversion.recognition.config)
    model.load_state_dict(conversion.state_dict, strict=True)

    extra = {'alignment.corruption.fc.weight': torch.ones(1)}
    back = to_official(model.state_dict() | extra).state_dict
    assert weights.keys() - back.keys() == set(conversion.ignored)
    assert all(torch.equal(back[k], weights[k]) for k in back)

    # the authors' head, written down from its description
    maps = [torch.rand(2, 16, side, side) for side in (8, 4, 2, 2)]
    model.eval()
    with torch.no_grad():
        w = {k.removeprefix('decode_head.'): v for k, v in weights.items()}
        projected = [F.interpolate(
            F.linear(x.flatten(2).mT, w[f'linear_c{i}.proj.weight'], w[f'linear_c{i}.proj.bias'])
            .mT.unflatten(2, x.shape[2:]), (8, 8), mode='bilinear', align_corners=False)
            for i, x in enumerate(maps, 1)]
        fused = F.conv2d(torch.cat(projected[::-1], 1), w['linear_fuse.conv.weight'])
        fused = F.batch_norm(fused, *(w[f'linear_fuse.bn.{k}'] for k in (
            'running_mean', 'running_var', 'weight', 'bias'))).relu()
        theirs = F.conv2d(fused, w['linear_pred.weight'], w['linear_pred.bias'])
        ours = model.decode_head(maps)
    torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-5)


def test_another_decode_head_is_refused():
    weights = {k: v for k, v in segmentor(width=4).items() if 'linear_c2' not in k}
    with pytest.raises(ValueError, match='not the authors. SegFormerHead with four maps'):
        from_official(weights)


def test_init_model_reads_classes_from_the_converted_file(tmp_path, monkeypatch):
    from mmseg.apis import init_model
    meta = dict(CLASSES=tuple(f'class{i}' for i in range(19)),
                PALETTE=[[i, i, i] for i in range(19)])
    torch.save(dict(state_dict=segmentor(), meta=meta), tmp_path / 'a.pth')
    run_tool(monkeypatch, tmp_path / 'a.pth', tmp_path / 'b.pth')
    checkpoint = load_foreign(tmp_path / 'b.pth')
    model = init_model(Config(dict(model=checkpoint['meta']['config'])), str(tmp_path / 'b.pth'),
                       device='cpu')
    assert model.dataset_meta == dict(classes=meta['CLASSES'], palette=meta['PALETTE'])
    torch.testing.assert_close(model.decode_head.conv_seg.bias,
                               checkpoint['state_dict']['decode_head.conv_seg.bias'])


@pytest.mark.parametrize('published', ['classification', 'segmentation'])
def test_encoding_follows_the_weights(published):
    """A model constructed with the other encoding gets that of the checkpoint."""
    weights = toy() if published == 'classification' else segmentor(width=4)
    conversion = from_official(weights)
    wrong = dict(conversion.recognition.backbone, out_type='featmap', out_indices=(0, -1))
    wrong['paired_frequencies'] = not wrong.get('paired_frequencies', True)
    right = dict(wrong, paired_frequencies=not wrong['paired_frequencies'])
    ours = {k.removeprefix('backbone.'): v for k, v in conversion.state_dict.items()
            if k.startswith('backbone.') and not k.startswith('backbone.norm')}
    reference, loaded = build(right), build(wrong)
    assert not torch.equal(reference.pos_embed.encode_axis(4), loaded.pos_embed.encode_axis(4))
    loaded.load_state_dict(ours, strict=True)
    torch.testing.assert_close(reference.pos_embed.encode_axis(4),
                               loaded.pos_embed.encode_axis(4), rtol=0, atol=0)
    # whose code computes another encoding cannot run the weights
    mixed = {f'backbone.{k}': v for k, v in build(wrong).state_dict().items()}
    mixed |= {k: v for k, v in conversion.state_dict.items() if 'pos_embed' not in k
              and not k.startswith('backbone.blocks')}
    with pytest.raises(ValueError, match=f'{published}.* other wavelengths'):
        to_official(mixed)


def test_unnamed_rvt_needs_its_heads(parity):
    fixture = parity('taprvt_64')
    weights = {k.removeprefix('sd::'): torch.from_numpy(fixture[k])
               for k in fixture.files if k.startswith('sd::')}
    with pytest.raises(ValueError, match='give --num-heads'):
        recognise(weights)
    assert recognise(weights, (4,)).backbone['arch']['num_heads'] == (4,)


def test_patch_reasoning_of_fan_is_a_linear_layer_there():
    weights = {k: v for k, v in toy().items() if '.attn.q.' not in k and '.attn.kv.' not in k
               or k.startswith('cls')}
    for i in range(2):
        weights |= random_weights({
            f'blocks.{i}.attn.qkv.0.weight': (4, 16, 3, 3), f'blocks.{i}.attn.qkv.0.bias': (4,),
            f'blocks.{i}.attn.fc.weight': (48, 4), f'blocks.{i}.attn.fc.bias': (48,)})
    conversion = from_official(weights)
    assert conversion.recognition.backbone['patch_reasoning']
    back = to_official(conversion.state_dict).state_dict
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[k], weights[k]) for k in weights)


class MapRecorder:
    """Keeps the attention matrices themselves."""

    def __init__(self):
        self.maps = []

    def attend(self, q, k, v, *, scale, logit_mask, layer):
        logits = scale * q @ k.transpose(-2, -1)
        self.maps.append((logits if logit_mask is None else logits * logit_mask).softmax(-1))
        return self.maps[-1] @ v


@pytest.mark.parametrize('name', [
    'fan_hybrid_64', 'fan_vit_64', 'tapfan_hybrid_64', 'tapfan_vit_64', 'seg_tapfan_hybrid_64',
    'seg_tapfan_vit_64', 'rvt_64', 'taprvt_64', 'taprvt_plus_64'])
def test_converted_weights_give_the_authors_numbers(parity, name):
    """From nothing but the converted file and the model that recognition describes."""
    from mmrobust.models import AttentionDiversificationLoss, listening
    fixture = parity(name)
    info = json.loads(str(fixture['meta']))

    def expected(key):
        return torch.as_tensor(fixture[f'lnb::{key}' if f'lnb::{key}' in fixture.files else key])

    def close(ours, theirs, tolerance):
        bound = tolerance * max(1., theirs.abs().max().item())
        torch.testing.assert_close(ours, theirs, rtol=0, atol=bound)

    theirs = {k.removeprefix('sd::'): torch.from_numpy(np.asarray(fixture[k]))
              for k in fixture.files if k.startswith('sd::')}
    heads = tuple(np.atleast_1d(info['kwargs'].get('heads', info['kwargs'].get('num_heads'))))
    conversion = from_official(dict(state_dict=theirs), num_heads=tuple(map(int, heads)))
    names, found = conversion.names, conversion.recognition
    segmentation = info['kind'] == 'seg'

    def run(prefix, train):
        model = build(found.config).train(train)
        state = conversion.state_dict if found.head else {
            k.removeprefix('backbone.'): v for k, v in conversion.state_dict.items()}
        model.load_state_dict(state, strict=True)
        image = torch.from_numpy(fixture['input'])
        outputs = model(image) if segmentation else (model.head(model.extract_feat(image)),)
        keys = [f'{prefix}feat{i}' for i in range(len(outputs))] if segmentation else [
            f'{prefix}logits']
        for ours, key in zip(outputs, keys, strict=True):
            close(ours, expected(key), 2e-5)
        return model, outputs

    recorder = MapRecorder()
    with torch.no_grad(), listening(recorder):
        run('', train=False)
    stored = [i for i in range(len(recorder.maps)) if f'attn{i}' in fixture.files]
    assert stored or 'attn0' not in fixture.files
    for i in stored:
        close(recorder.maps[i], expected(f'attn{i}'), 2e-5)

    loss = AttentionDiversificationLoss(variant='official')
    if 'adl_th2' in fixture.files:
        with torch.no_grad(), loss.listen() as records:
            run('', train=False)
        close(loss(records), expected('adl_th2'), 2e-5)

    with loss.listen() as records:
        model, outputs = run('train_', train=True)
    objective = sum(x.square().mean() if segmentation else x.square().sum() for x in outputs)
    if 'ADL' in info['objective']:
        objective = objective + loss(records)
    objective.backward()
    gradients = {k.removeprefix('grad::') for k in fixture.files if k.startswith('grad::')}
    parameters = dict(model.named_parameters())
    assert gradients
    for key in gradients:
        ours = names[key] if found.head else names[key].removeprefix('backbone.')
        if parameters[ours].requires_grad:
            close(parameters[ours].grad, expected(f'grad::{key}'), 1e-4)
        else:
            assert not expected(f'grad::{key}').any()
