"""DINOv2 and DINOv3: variants, options, sizes and errors; parity: test_dino_parity.py."""
import copy

import backbone_checks as checks
import pytest
import torch
from mmengine.registry import MODELS

from mmrobust.analysis.capture import capture_attention
from mmrobust.models.backbones.dino import DINOv2, DINOv3, RotaryEmbedding, rotate

TAP = dict(num_branches=4)
TOY = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=24)
SMALL = dict(patch_size=8, layer_scale=1.)
VARIANTS = {
    'v3': (DINOv3, dict(arch=TOY)),
    'v3_tap': (DINOv3, dict(arch=TOY, tap=TAP)),
    'v3_gated_tap': (DINOv3, dict(arch=dict(TOY, gated=True, qkv_bias=False), tap=TAP)),
    'v2': (DINOv2, dict(arch=TOY, img_size=40)),
    'v2_gated_tap_no_registers': (DINOv2, dict(arch=dict(TOY, gated=True), img_size=40, tap=TAP,
                                               num_registers=0)),
}


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys())
def build(request):
    cls, options = request.param

    def make(**kwargs):
        torch.manual_seed(0)
        return cls(**{**SMALL, **options, **kwargs})

    return make


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def count(cls, arch, **kwargs):
    with torch.device('meta'):
        return sum(p.numel() for p in cls(arch=arch, **kwargs).parameters())


@pytest.mark.parametrize('cls, arch, millions', [
    # rounded as their model cards say
    (DINOv3, 'small', 21.6), (DINOv3, 'small_plus', 28.7), (DINOv3, 'base', 85.7),
    (DINOv3, 'large', 303.1), (DINOv3, 'huge_plus', 840.6), (DINOv3, '7b', 6716.),
    (DINOv2, 'small', 22.1), (DINOv2, 'base', 86.6), (DINOv2, 'large', 304.4),
    (DINOv2, 'giant', 1136.5)])
def test_parameter_counts(cls, arch, millions):
    assert count(cls, arch) / 1e6 == pytest.approx(millions, rel=2.5e-3)


def test_gradients(build):
    model = build()
    checks.check_gradients(model, images(2, 3, 40, 56))
    if isinstance(model, DINOv3) and model.blocks[0].attn.qkv.bias is not None:
        assert not model.blocks[0].attn.qkv.bias.grad.chunk(3)[1].any()


@pytest.mark.parametrize('out_type', ['featmap', 'cls_token'])
def test_checkpointing(build, out_type):
    kwargs = dict(out_type=out_type, drop_path_rate=.3)
    checks.check_checkpointing(build(**kwargs), build(**kwargs, with_cp=True),
                               images(2, 3, 40, 32))


def test_autocast(build):
    checks.check_autocast(build(), images(2, 3, 40, 40))


def test_round_trip(build):
    checks.check_round_trip(build(), build(), images(1, 3, 32, 48))


def test_diversification_is_the_dense_formula(build):
    model = build()
    if isinstance(model, DINOv3):  # the two runs that are compared must see the same places
        model.rope_embed.augmentation = {}
    checks.check_diversification(model, images(2, 3, 32, 56), num_layers=3)


def test_listening_changes_nothing(build):
    checks.check_listening_changes_nothing(build(), images(1, 3, 40, 40))


def test_maps_of_non_square_images(build):
    first, last = build(out_indices=(0, -1)).eval()(images(1, 3, 24, 56))
    assert first.shape == last.shape == (1, 16, 3, 7)


def test_class_token(build):
    model = build(out_type='cls_token').eval()
    assert model(images(1, 3, 24, 56))[0].shape == (1, 16)


def test_sides_between_patches_are_filled_up(build):
    model = build().eval()
    x = images(1, 3, 21, 33)
    padded = torch.zeros(1, 3, 24, 40)
    padded[..., :21, :33] = x
    torch.testing.assert_close(model(x)[0], model(padded)[0], rtol=0, atol=0)


def test_identity_pooling_is_the_plain_model_bit_for_bit(build):
    pooled, plain = build(tap=TAP), build(tap=None)
    checks.check_equals_host(pooled, plain, images(2, 3, 40, 56))


def test_only_patches_are_pooled():
    model = DINOv3(**SMALL, arch=TOY, tap=TAP)
    seen = {}
    model.blocks[0].tap.register_forward_hook(lambda m, args, out: seen.update(x=args[0]))
    model.blocks[0].attn.register_forward_pre_hook(lambda m, args: seen.update(y=args[0]))
    model(images(2, 3, 32, 72))
    assert seen['x'].shape == (2, 16, 4, 9)
    assert seen['y'].shape == (2, 1 + 4 + 36, 16)


def test_only_what_is_used_is_built(build):
    model = build(out_indices=(1,)).train()
    assert len(model.blocks) == 2
    model(images(2, 3, 32, 32))[0].square().mean().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize('stages, trained', [
    (0, {'blocks.0', 'blocks.1', 'blocks.2', 'norm'}), (2, {'blocks.2', 'norm'}), (3, set())])
def test_frozen_stages(build, stages, trained):
    model = build(frozen_stages=stages).train()
    assert {'.'.join(n.split('.')[:2 if n.startswith('blocks') else 1])
            for n, p in model.named_parameters() if p.requires_grad} == trained
    assert not model.patch_embed.training and model.norm.training == (stages < 3)


def test_tuning_of_the_pooling_alone():
    model = DINOv3(**SMALL, arch=TOY, tap=TAP, tune='tap', drop_path_rate=.5).train()
    assert all(('.tap.' in n) == p.requires_grad for n, p in model.named_parameters())
    assert model.blocks[0].tap.training and not model.rope_embed.training
    checks.check_gradients(model, images(2, 3, 40, 40))
    assert not model.eval().blocks[0].tap.training


def test_depths_of_layer_wise_decay(build):
    model = build()
    depths = {n: model.get_layer_depth(f'backbone.{n}', 'backbone.')
              for n, _ in model.named_parameters()}
    assert depths['cls_token'] == depths['patch_embed.proj.weight'] == (0, 5)
    assert depths['blocks.0.norm1.weight'] == (1, 5)
    assert depths['norm.weight'] == model.get_layer_depth('head.fc.weight', 'backbone.') == (4, 5)


def test_rotation_is_that_of_complex_numbers():
    rope = RotaryEmbedding(16, base=50.).double().eval()
    rope.periods = 50. ** (torch.arange(4, dtype=torch.float64) / 4)
    x = images(2, 3, 5 + 6, 16).double()
    rows, columns = 2, 3
    y = torch.tensor([-.5, .5], dtype=torch.float64).repeat_interleave(columns)
    z = torch.tensor([-2 / 3, 0., 2 / 3], dtype=torch.float64).repeat(rows)
    angles = 2 * torch.pi * torch.cat([y[:, None] / rope.periods, z[:, None] / rope.periods], 1)
    pairs = torch.complex(x[..., :8], x[..., 8:])[:, :, 5:] * torch.polar(
        torch.ones_like(angles), angles)
    out = rotate(x, rope((rows, columns)))
    assert torch.equal(out[:, :, :5], x[:, :, :5])
    torch.testing.assert_close(out[:, :, 5:], torch.cat([pairs.real, pairs.imag], -1))


def test_augmentation_of_places():
    rope = RotaryEmbedding(16, augmentation=dict(shift=.1, jitter=1.5, rescale=2.))
    cos = rope((3, 4))[0]
    assert not torch.equal(cos, rope((3, 4))[0])
    rope.eval()
    assert torch.equal(rope((3, 4))[0], rope((3, 4))[0])


def test_wrong_weights():
    model = DINOv3(**SMALL, arch=TOY)
    with pytest.raises(ValueError, match='have 4 register tokens, the model 0: set num_reg'):
        DINOv3(**SMALL, arch=TOY, num_registers=0).load_state_dict(model.state_dict())
    with pytest.raises(ValueError, match='have 0 register tokens, the model 4'):
        model.load_state_dict(DINOv3(**SMALL, arch=TOY, num_registers=0).state_dict())
    with pytest.raises(ValueError, match='of base 100, not 10000: set rope_base=100'):
        DINOv3(**SMALL, arch=TOY, rope_base=1e4).load_state_dict(model.state_dict())
    with pytest.raises(RuntimeError, match='size mismatch'):
        DINOv3(**SMALL, arch=dict(TOY, embed_dims=32)).load_state_dict(model.state_dict())
    rounded = {k: v.bfloat16().float() if 'periods' in k else v
               for k, v in copy.deepcopy(model.state_dict()).items()}
    model.load_state_dict(rounded)
    assert torch.equal(model.rope_embed.periods, rounded['rope_embed.periods'])


@pytest.mark.parametrize('kwargs, message', [
    (dict(arch='giant'), "unknown DINOv3 arch 'giant'"),
    (dict(arch=dict(TOY, depth=2)), 'has depth, which means nothing'),
    (dict(arch=dict(embed_dims=16)), 'lacks feedforward_channels, num_heads, num_layers'),
    (dict(arch=dict(TOY, num_heads=3)), 'num_heads=3 does not divide'),
    (dict(arch=dict(TOY, num_heads=8)), 'a width of 2 per head is no multiple of 4'),
    (dict(out_type='mean'), "choose 'featmap' or 'cls_token'"),
    (dict(num_registers=-1), 'num_registers=-1'),
    (dict(drop_path_rate=1.), r'outside \[0, 1\)'),
    (dict(frozen_stages=13), 'frozen_stages=13 is outside -1 ... 12'),
    (dict(out_indices=(12,)), r'out_indices \[12\] are outside -12 ... 11'),
    (dict(tune='head'), "tune='head': choose"),
    (dict(tune='tap'), 'has none to train: give tap'),
    (dict(rope_base=1.), 'rope_base=1.0: choose a number above 1'),
    (dict(rope_augmentation=dict(scale=2.)), 'has scale: known are shift, jitter, rescale'),
    (dict(rope_augmentation=dict(jitter=.5)), 'jitter=0.5: a factor of at least 1'),
])
def test_errors(kwargs, message):
    with pytest.raises(ValueError, match=message), torch.device('meta'):
        DINOv3(**{'arch': 'small', **kwargs})


def test_positions_need_whole_patches():
    with pytest.raises(ValueError, match='img_size=224 is no multiple of patch_size=15'):
        DINOv2(TOY, patch_size=15, img_size=224)


@pytest.mark.parametrize('name', ['DINOv2', 'DINOv3'])
def test_registered(name):
    assert type(MODELS.build(dict(type=name, arch=TOY))).__name__ == name


@pytest.mark.skipif(not hasattr(torch.library, 'custom_op'),
                    reason='the compiler of torch before 2.4 does not follow generators')
def test_compiles_without_breaks():
    model = DINOv3(**SMALL, arch=TOY, tap=TAP).eval()
    x = images(1, 3, 24, 40)
    compiled = torch.compile(model, backend='eager', fullgraph=True)
    torch.testing.assert_close(compiled(x)[0], model(x)[0])


def classifier(**backbone):
    pytest.importorskip('mmpretrain')
    return checks.build_model('mmpretrain', dict(
        type='RobustModel', host='mmpretrain.ImageClassifier',
        diversification=dict(type='AttentionDiversificationLoss'),
        backbone=dict(type='DINOv3', arch=TOY, tap=TAP, out_type='cls_token',
                      rope_augmentation=None, **SMALL, **backbone),
        head=dict(type='LinearClsHead', num_classes=3, in_channels=16,
                  loss=dict(type='CrossEntropyLoss'))))


@pytest.mark.parametrize('tune', ['all', 'tap'])
def test_training_step(tune):
    checks.check_classifier_learns(classifier(tune=tune), images(4, 3, 40, 40))


def test_diversification_that_would_train_nothing_is_refused():
    with pytest.raises(ValueError, match='all of DINOv3 is frozen, so that the loss would train'):
        classifier(frozen_stages=3)


def test_alignment():
    pytest.importorskip('mmpretrain')
    from mmpretrain.structures import DataSample
    model = checks.build_model('mmpretrain', dict(
        type='RobustModel', host='mmpretrain.ImageClassifier',
        alignment=dict(type='AdversarialFeatureAlignment',
                       corruption=dict(type='RandomPatchCorruption', patch_size=8)),
        backbone=dict(type='DINOv3', arch=TOY, tap=TAP, out_type='cls_token', **SMALL),
        head=dict(type='LinearClsHead', num_classes=3, in_channels=16,
                  loss=dict(type='CrossEntropyLoss')))).train()
    losses = model.loss(images(2, 3, 40, 40), [DataSample().set_gt_label(i) for i in range(2)])
    assert losses['loss_alignment'] > 0
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    assert model.backbone.blocks[0].attn.qkv.weight.grad.any()


def test_layer_wise_decay_of_mmpretrain():
    from mmpretrain.engine.optimizers import LearningRateDecayOptimWrapperConstructor
    constructor = LearningRateDecayOptimWrapperConstructor(
        dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1., weight_decay=.1)),
        dict(layer_decay_rate=.5))
    model = classifier()
    found = {id(p): group['lr'] for group in constructor(model).param_groups
             for p in group['params']}
    rates = {name: found[id(p)] for name, p in model.named_parameters()}
    assert rates['backbone.cls_token'] == .5 ** 4
    assert rates['backbone.blocks.2.tap.predictor.0.weight'] == .5
    assert rates['head.fc.weight'] == 1.


@pytest.mark.parametrize('registers', [0, 4])
@pytest.mark.parametrize('cls', [DINOv2, DINOv3])
def test_attention_maps_know_the_extra_tokens(cls, registers):
    options = dict(img_size=40) if cls is DINOv2 else {}
    model = cls(**SMALL, **options, arch=TOY, num_registers=registers).eval()
    x = images(1, 3, 45, 60)  # neither side is a multiple of the patch
    with capture_attention(model) as captured, torch.no_grad():
        model(x)
    assert len(captured) == 3
    for maps in captured.values():
        assert maps.grid_of(maps.shape[2]) == ((6, 8), 1 + registers)
        assert maps.query_map((.5, .5)).shape == (6, 8)
