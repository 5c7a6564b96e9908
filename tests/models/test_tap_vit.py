"""TAP and ADL on MMPretrain's vision transformer (ViT, DeiT)."""
import copy
import pickle

import backbone_checks as checks
import pytest
import torch

pytest.importorskip('mmpretrain')
from mmpretrain.models import VisionTransformer  # noqa: E402

from mmrobust.models.backbones.tap_vit import TAPVisionTransformer  # noqa: E402

TAP = dict(num_branches=4)
TOY = dict(arch=dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32),
           img_size=64, drop_path_rate=.2)


def build(tap=TAP, **kwargs):
    torch.manual_seed(0)
    return TAPVisionTransformer(**{**TOY, **kwargs}, tap=tap)


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize('kwargs', [
    dict(), dict(out_type='featmap', with_cls_token=False, out_indices=[0, 2]),
    dict(out_type='avg_featmap', layer_scale_init_value=.1)], ids=['cls', 'maps', 'mean'])
def test_equals_the_host(kwargs):
    torch.manual_seed(0)
    checks.check_equals_host(build(**kwargs), VisionTransformer(**{**TOY, **kwargs}),
                             images(2, 3, 64, 96))


@pytest.mark.parametrize('tap', [TAP, None])
def test_gradients(tap):
    checks.check_gradients(build(tap, drop_path_rate=0.), images(2, 3, 48, 80))


def test_checkpointing():
    checks.check_checkpointing(build(), build(with_cp=True), images(2, 3, 64, 48))


def test_autocast():
    checks.check_autocast(build(), images(2, 3, 64, 64))


def test_round_trip():
    checks.check_round_trip(build(), build(), images(1, 3, 64, 64))


@pytest.mark.parametrize('tap', [TAP, None])
def test_diversification_is_the_dense_formula(tap):
    checks.check_diversification(build(tap, drop_path_rate=0.), images(2, 3, 64, 80), 3)


def test_listening_changes_nothing():
    checks.check_listening_changes_nothing(build(), images(2, 3, 64, 64))


def test_attention_dropout_is_refused_while_listening():
    checks.check_refuses_attention_dropout(
        build(layer_cfgs=dict(attn_drop_rate=.1)), images(2, 3, 64, 64))


def test_class_token_is_not_pooled():
    layer = build().eval().layers[0]
    x = images(2, 1 + 12, 16)
    pooled = layer.pool(x, (3, 4))
    assert torch.equal(pooled[:, 0], x[:, 0])
    expected = layer.tap(x[:, 1:].transpose(1, 2).reshape(2, 16, 3, 4))
    torch.testing.assert_close(pooled[:, 1:], expected.flatten(2).transpose(1, 2))


def test_frozen_layers_keep_their_pooling():
    model = build(frozen_stages=2).train()
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert 'layers.2.tap.predictor.0.weight' in trained
    assert not any(n.startswith(('layers.0', 'layers.1', 'patch_embed')) for n in trained)
    before = model.layers[0].tap.predictor[1].running_mean.clone()
    model(images(2, 3, 64, 64))
    assert torch.equal(model.layers[0].tap.predictor[1].running_mean, before)


def test_copies_have_grids_of_their_own():
    """An exponential moving average copies the model."""
    model = build().eval()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        model(images(1, 3, 64, 64))
        x = images(1, 3, 48, 96)
        torch.testing.assert_close(other(x)[0], model(x)[0])


def test_size_of_deit_base():
    with torch.device('meta'):
        plain = TAPVisionTransformer('deit-base')
        pooled = TAPVisionTransformer('deit-base', tap=TAP)
    difference = sum(p.numel() for p in pooled.parameters()) - sum(
        p.numel() for p in plain.parameters())
    # 12 layers: two 3x3 convolutions without biases and a batch normalisation of 4 channels
    assert difference == 12 * (9 * 768 * 4 + 2 * 4 + 9 * 4 * 4)


def test_training_step():
    model = checks.build_model('mmpretrain', dict(
        type='RobustModel', host='mmpretrain.ImageClassifier',
        diversification=dict(type='AttentionDiversificationLoss'),
        backbone=dict(type='TAPVisionTransformer', tap=TAP, **TOY),
        head=dict(type='LinearClsHead', num_classes=3, in_channels=16,
                  loss=dict(type='CrossEntropyLoss'))))
    checks.check_classifier_learns(model, images(4, 3, 64, 64))
