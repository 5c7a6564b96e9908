"""TAP and ADL on MMSegmentation's mix transformer (SegFormer)."""
import backbone_checks as checks
import pytest
import torch
from mmengine.structures import PixelData

pytest.importorskip('mmseg')
from mmseg.models import MixVisionTransformer  # noqa: E402
from mmseg.structures import SegDataSample  # noqa: E402

from mmrobust.models import listening  # noqa: E402
from mmrobust.models.backbones.tap_mit import TAPMixVisionTransformer  # noqa: E402

TAP = dict(num_branches=4)
TOY = dict(embed_dims=8, num_stages=2, num_layers=[1, 2], num_heads=[1, 2], patch_sizes=[7, 3],
           strides=[4, 2], sr_ratios=[2, 1], out_indices=(0, 1), drop_path_rate=.2)


def build(tap=TAP, **kwargs):
    torch.manual_seed(0)
    return TAPMixVisionTransformer(**{**TOY, **kwargs}, tap=tap)


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize('qkv_bias', [True, False])
def test_equals_the_host(qkv_bias):
    torch.manual_seed(0)
    checks.check_equals_host(build(qkv_bias=qkv_bias),
                             MixVisionTransformer(**TOY, qkv_bias=qkv_bias),
                             images(2, 3, 32, 48))


@pytest.mark.parametrize('kwargs', [dict(tap=TAP), dict(tap=None), dict(qkv_bias=False)])
def test_gradients(kwargs):
    checks.check_gradients(build(**kwargs, drop_path_rate=0.), images(2, 3, 48, 32))


def test_checkpointing():
    checks.check_checkpointing(build(), build(with_cp=True), images(2, 3, 32, 48))


def test_autocast():
    checks.check_autocast(build(), images(2, 3, 32, 32))


def test_round_trip():
    checks.check_round_trip(build(), build(), images(1, 3, 32, 32))


@pytest.mark.parametrize('tap', [TAP, None])
def test_diversification_is_the_dense_formula(tap):
    checks.check_diversification(build(tap, drop_path_rate=0.), images(2, 3, 32, 48), 3)


def test_keys_are_fewer_than_queries():
    recorder = checks.DenseListener()
    with listening(recorder), torch.no_grad():
        build()(images(2, 3, 32, 48))
    assert [tuple(m.shape) for m in recorder.maps] == [(2, 96, 24), (2, 24, 24), (2, 24, 24)]


@pytest.mark.parametrize('qkv_bias', [True, False])
def test_listening_changes_nothing(qkv_bias):
    checks.check_listening_changes_nothing(build(qkv_bias=qkv_bias), images(2, 3, 32, 32))


def test_attention_dropout_is_refused_while_listening():
    checks.check_refuses_attention_dropout(build(attn_drop_rate=.1), images(2, 3, 32, 32))


def test_initial_pooling_weights_are_not_the_hosts():
    """Their range is PyTorch's, +-1/sqrt(fan in); the host's normal deviates far beyond."""
    model = build()
    model.init_weights()
    for _, blocks, _ in model.layers:
        for block in blocks:
            assert block.tap.predictor[2].weight.abs().max() <= 1 / 6


def test_initialisation_does_not_touch_a_pretrained_pooling(tmp_path):
    trained = build()
    torch.save(dict(state_dict=trained.state_dict()), tmp_path / 'trained.pth')
    torch.manual_seed(7)
    model = TAPMixVisionTransformer(**TOY, tap=TAP, init_cfg=dict(
        type='Pretrained', checkpoint=str(tmp_path / 'trained.pth')))
    model.init_weights()
    for key, value in trained.state_dict().items():
        assert torch.equal(model.state_dict()[key], value)


def test_training_step():
    model = checks.build_model('mmseg', dict(
        type='RobustModel', host='mmseg.EncoderDecoder',
        diversification=dict(type='AttentionDiversificationLoss'),
        backbone=dict(type='TAPMixVisionTransformer', tap=TAP, **TOY),
        decode_head=dict(
            type='SegformerHead', in_channels=[8, 16], in_index=[0, 1], channels=16,
            num_classes=3, norm_cfg=dict(type='BN'), dropout_ratio=0.,
            loss_decode=dict(type='CrossEntropyLoss'))))
    x = images(2, 3, 32, 48)
    samples = [SegDataSample(gt_sem_seg=PixelData(data=(image[:1] > 0).long())) for image in x]
    checks.check_learns(model, x, samples, ('decode.loss_ce', 'loss_adl'))
