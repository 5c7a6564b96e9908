"""FAN's promises to a trainer, over all variants at toy width."""
import copy
import json

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from mmrobust.models import FAN, AttentionDiversificationLoss, TokenAwareAvgPooling

HYBRID = dict(patch_embed='hybrid', stem_depths=(1, 1), stem_dims=(8, 12), depths=(2,),
              embed_dims=(16,), num_heads=(2,), out_indices=(1, -1))
TWO_STAGES = dict(patch_embed='hybrid', stem_depths=(1, 1), stem_dims=(8, 12), depths=(2, 1),
                  embed_dims=(16, 24), num_heads=(2, 3), out_indices=(1, -1))
VIT = dict(patch_embed='conv', patch_size=16, depths=(3,), embed_dims=(16,), num_heads=(2,),
           out_indices=(0, 2, -1))
ARCHS = {'hybrid': HYBRID, 'two_stages': TWO_STAGES, 'vit': VIT,
         'vit_p4': {**VIT, 'patch_size': 4}}
TAPS = {'plain': None, 'tap': dict(num_branches=3), 'multi_kernel': dict(mode='multi_kernel'),
        'avg_pool': dict(mode='avg_pool', kernel_size=5), 'conv': dict(mode='conv')}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def objective(outputs):
    return sum(x.square().mean() for x in outputs)


@pytest.mark.parametrize('tap', TAPS)
@pytest.mark.parametrize('arch', ARCHS)
@pytest.mark.parametrize('out_type', ['featmap', 'cls_token'])
def test_forward_backward_batch_of_one_not_square(arch, tap, out_type):
    model = FAN(arch=ARCHS[arch], tap=TAPS[tap], out_type=out_type, drop_path_rate=.0).train()
    loss = AttentionDiversificationLoss()
    with loss.listen() as records:
        outputs = model(torch.randn(1, 3, 48, 80))
    assert len(records) == len(model.blocks)
    (objective(outputs) + loss(records)).backward()
    missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing
    dead = [n for n, p in model.named_parameters()
            if p.requires_grad and not p.grad.isfinite().all()]
    assert not dead


@pytest.mark.parametrize('arch,shapes', [
    ('hybrid', [(8, 12, 20), (12, 6, 10), (16, 3, 5), (16, 3, 5)]),
    ('two_stages', [(8, 12, 20), (12, 6, 10), (16, 3, 5), (24, 2, 3)]),
    ('vit', [(16, 3, 5), (16, 3, 5), (16, 3, 5)]),
])
def test_maps(arch, shapes):
    outputs = FAN(arch=ARCHS[arch]).eval()(torch.randn(2, 3, 48, 80))
    assert [tuple(x.shape) for x in outputs] == [(2, *s) for s in shapes]


def test_class_token_is_what_a_linear_head_needs():
    outputs = FAN(arch=HYBRID, out_type='cls_token')(torch.randn(2, 3, 32, 48))
    assert [tuple(x.shape) for x in outputs] == [(2, 16)]


@pytest.mark.parametrize('arch', ['hybrid', 'two_stages', 'vit'])
@pytest.mark.parametrize('drop_path_rate', [0., .5])
def test_checkpointing_changes_nothing(arch, drop_path_rate):
    plain = FAN(arch=ARCHS[arch], tap=dict(num_branches=3), drop_path_rate=drop_path_rate)
    checkpointed = copy.deepcopy(plain)
    checkpointed.with_cp = True
    if arch != 'vit':
        checkpointed.patch_embed.backbone.with_cp = True
    x = torch.randn(2, 3, 48, 64)
    loss = AttentionDiversificationLoss()
    results = []
    for model in (plain.train(), checkpointed.train()):
        torch.manual_seed(1)
        with loss.listen() as records:
            outputs = model(x)
        assert len(records) == len(model.blocks)
        total = objective(outputs) + loss(records)
        total.backward()
        assert len(records) == len(model.blocks)
        results.append((total, {n: p.grad for n, p in model.named_parameters()},
                        dict(model.named_buffers())))
    (a, grads_a, buffers_a), (b, grads_b, buffers_b) = results
    torch.testing.assert_close(a, b, rtol=0, atol=0)
    for name, grad in grads_a.items():
        if grad is not None:
            torch.testing.assert_close(grad, grads_b[name], rtol=1e-5, atol=1e-7, msg=name)
    for name, buffer in buffers_a.items():
        torch.testing.assert_close(buffer, buffers_b[name], rtol=0, atol=0, msg=name)


def test_checkpointing_is_switched_on_by_the_argument():
    model = FAN(arch=HYBRID, with_cp=True)
    assert model.with_cp and model.patch_embed.backbone.with_cp


def test_mixed_precision():
    model = FAN(arch=HYBRID, tap=dict(num_branches=4)).train()
    loss = AttentionDiversificationLoss()
    with torch.autocast('cpu', dtype=torch.bfloat16), loss.listen() as records:
        outputs = model(torch.randn(2, 3, 48, 64))
    assert records[0].column_sum.dtype == torch.float32
    value = loss(records)
    assert value.dtype == torch.float32
    (objective(outputs) + value).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_state_dict_round_trip():
    x = torch.randn(1, 3, 32, 48)
    first, second = (FAN(arch=TWO_STAGES, tap=dict(num_branches=2)).eval() for _ in range(2))
    assert not torch.equal(first(x)[-1], second(x)[-1])
    second.load_state_dict(first.state_dict())
    for a, b in zip(first(x), second(x), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_checkpoint_brings_its_own_positional_encoding():
    source = FAN(arch=HYBRID, paired_frequencies=False)
    target = FAN(arch=HYBRID)
    target.load_state_dict(source.state_dict())
    torch.testing.assert_close(source.pos_embed((3, 4)), target.pos_embed((3, 4)))
    older = {k: v for k, v in source.state_dict().items() if not k.endswith('wavelengths')}
    target = FAN(arch=HYBRID)
    target.load_state_dict(older, strict=True)
    assert not torch.allclose(source.pos_embed((3, 4)), target.pos_embed((3, 4)))


def test_frozen_stages():
    model = FAN(arch=HYBRID, frozen_stages=1).train()
    assert not any(p.requires_grad for p in model.patch_embed.parameters())
    assert not any(p.requires_grad for p in model.blocks[0].parameters())
    assert all(p.requires_grad for p in model.blocks[1].parameters())
    assert not model.blocks[0].training and model.blocks[1].training
    before = model.blocks[0].mlp.mlp_v.dwconv.bn.running_mean.clone()
    objective(model(torch.randn(2, 3, 32, 32))).backward()
    torch.testing.assert_close(model.blocks[0].mlp.mlp_v.dwconv.bn.running_mean, before)


def test_pretrained_weights_through_init_cfg(tmp_path):
    source = FAN(arch=HYBRID)
    path = tmp_path / 'weights.pth'
    torch.save({'state_dict': {f'backbone.{k}': v for k, v in source.state_dict().items()}}, path)
    model = FAN(arch=HYBRID, init_cfg=dict(type='Pretrained', checkpoint=str(path),
                                           prefix='backbone.'))
    model.init_weights()
    torch.testing.assert_close(model.blocks[1].attn.q.weight, source.blocks[1].attn.q.weight)


def test_initialisation():
    model = FAN(arch='tiny_hybrid', tap=dict(num_branches=4))
    block = model.blocks[0]
    assert block.attn.q.weight.std().item() == pytest.approx(.02, rel=.05)
    assert block.mlp.mlp_v.dwconv.conv1.weight.std().item() == pytest.approx((2 / 9) ** .5, rel=.05)
    assert not block.attn.q.bias.any() and not block.mlp.mlp_v.dwconv.conv1.bias.any()
    assert block.gamma1.unique().tolist() == [1.]
    stem = model.patch_embed.backbone.stages[1].blocks[0]
    assert stem.gamma.unique().item() == pytest.approx(1e-6)
    assert stem.mlp.fc1.weight.std().item() == pytest.approx(.02, rel=.05)
    # PyTorch's default is uniform
    fan_in = model.patch_embed.proj.weight[0].numel()
    assert model.patch_embed.proj.weight.abs().max() <= fan_in ** -.5
    assert block.tap.predictor[0].weight.abs().max() <= (9 * 192) ** -.5


@pytest.mark.skipif(torch.__version__ < (2, 5), reason='torch 2.1 takes more than one graph')
def test_torch_compile_without_graph_breaks_in_eval():
    model = FAN(arch=HYBRID, tap=dict(num_branches=3)).eval()
    x = torch.randn(1, 3, 32, 48)
    with torch.no_grad():
        expected = model(x)
        compiled = torch.compile(model, fullgraph=True, backend='eager')(x)
    for a, b in zip(expected, compiled, strict=True):
        torch.testing.assert_close(a, b)


NAMES = {'tiny_8_p4_hybrid': 'tiny_hybrid', 'small_12_p4_hybrid': 'small_hybrid',
         'base_16_p4_hybrid': 'base_hybrid', 'large_16_p4_hybrid': 'large_hybrid',
         'Xlarge_16_p4_hybrid': 'xlarge_hybrid', 'tiny_12_p16_224': 'tiny_vit',
         'small_12_p16_224': 'small_vit', 'base_18_p16_224': 'base_vit',
         'large_24_p16_224': 'large_vit'}


@pytest.mark.parametrize('family,out_type', [
    ('fan_', 'cls_token'), ('tap_fan_', 'cls_token'), ('seg_fan_', 'featmap'),
    ('seg_tap_fan_', 'featmap')])
def test_parameter_counts(shared, family, out_type):
    """Every published variant has as many parameters as the authors' code builds."""
    variants = json.loads((shared / 'reference' / 'variants.json').read_text())['variants']
    compared = 0
    for suffix, arch in NAMES.items():
        if (variant := variants.get(family + suffix)) is None:
            continue
        branches = variant['num_scales']
        with torch.device('meta'):
            model = FAN(arch=arch, out_type=out_type,
                        tap=dict(num_branches=branches) if branches else None)
        count = sum(p.numel() for p in model.parameters())
        if out_type == 'cls_token':
            count += (model.cls_token.shape[-1] + 1) * 1000  # their classifier
        assert count == variant['num_parameters'], family + suffix
        compared += 1
    assert compared >= 4


def test_paper_table_1_parameter_counts():
    """Alternatives to TAP, in millions (TAPADL, Table 1)."""
    for tap, millions in ((None, 50.4), (dict(mode='avg_pool'), 50.4),
                          (dict(mode='conv', kernel_size=3), 79.4),
                          (dict(mode='conv', kernel_size=5), 130.7),
                          (dict(mode='multi_kernel'), 50.7), (dict(num_branches=4), 50.7)):
        with torch.device('meta'):
            model = FAN(arch='base_hybrid', tap=tap, out_type='cls_token')
        count = sum(p.numel() for p in model.parameters()) + 449 * 1000
        assert count / 1e6 == pytest.approx(millions, abs=.1)


@pytest.mark.parametrize('config,message', [
    (dict(tap=dict(num_branches=0)), 'num_branches=0.*at least 1'),
    (dict(tap=dict(mode='median')), "unknown TAP mode 'median'"),
    (dict(tap=dict(mode='conv', kernel_size=4)), 'kernel_size=4'),
    (dict(arch='huge'), "unknown FAN arch 'huge'"),
    (dict(arch=dict(depths=(1,), widths=(8,))), 'has widths, which means nothing: known are'),
    (dict(arch=dict(depths=(1,), embed_dims=(8,))), 'lacks num_heads, stem_depths'),
    (dict(arch={**HYBRID, 'num_heads': (3,)}), 'num_heads=3 does not divide the width 16'),
    (dict(arch={**VIT, 'patch_size': 7}), 'patch_size=7'),
    (dict(out_type='logits'), "out_type='logits'"),
    (dict(out_indices=(16, )), r'out_indices \[16\]'),
    (dict(drop_path_rate=1.), 'drop_path_rate=1.0'),
    (dict(frozen_stages=17), 'frozen_stages=17'),
])
def test_bad_configuration(config, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(dict(type='FAN', **config))


def test_an_image_without_a_token():
    with pytest.raises(ValueError, match='8 x 64 pixels has no token.*16 x 16'):
        FAN(arch=HYBRID)(torch.randn(1, 3, 8, 64))


def test_pooling_keeps_the_residual():
    """TAP replaces only the input of the attention branch."""
    model = FAN(arch=VIT, tap=dict(num_branches=3)).eval()
    block = model.blocks[0]
    nn.init.zeros_(block.gamma1)
    nn.init.zeros_(block.gamma2)
    x = torch.randn(1, 15, 16)
    torch.testing.assert_close(block(x, (3, 5)), x)


def test_multi_kernel_of_one_branch_is_the_identity():
    x = torch.randn(2, 4, 5, 7)
    for mode in ('dilated', 'multi_kernel'):
        torch.testing.assert_close(TokenAwareAvgPooling(4, 1, mode)(x), x)


@pytest.mark.parametrize(('out_indices', 'blocks'), [((0,), 1), ((2,), 3), ((1, -1), 4), ((), 0)])
def test_only_what_is_used_is_built(out_indices, blocks):
    model = FAN(arch=dict(TWO_STAGES, depths=(2, 2)), out_indices=out_indices).train()
    assert len(model.blocks) == blocks and bool(model.cls_attn_blocks) == (-1 in out_indices)
    maps = model(torch.randn(2, 3, 32, 48))
    objective(maps).backward()
    used = {name for name, p in model.named_parameters() if p.grad is not None}
    if out_indices:  # what DistributedDataParallel would wait for
        assert used == {name for name, p in model.named_parameters() if p.requires_grad}


def test_stages_of_different_number():
    with pytest.raises(ValueError, match='one entry per stage'):
        FAN(arch=dict(TWO_STAGES, depths=(2, 2, 2)))
