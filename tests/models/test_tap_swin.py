"""TAP and ADL on MMPretrain's Swin transformer."""
import backbone_checks as checks
import pytest
import torch

from mmrobust.models import AttentionDiversificationLoss, attend, listening
from mmrobust.models.layers.listening import observe

pytest.importorskip('mmpretrain')
from mmpretrain.models import SwinTransformer  # noqa: E402
from mmpretrain.models.utils import WindowMSAV2  # noqa: E402

from mmrobust.models.backbones.tap_swin import TAPSwinTransformer  # noqa: E402

TAP = dict(num_branches=4)
TOY = dict(arch=dict(embed_dims=8, depths=[2, 2], num_heads=[2, 4]), window_size=4,
           out_indices=(1,), drop_path_rate=.2)


def build(tap=TAP, **kwargs):
    torch.manual_seed(0)
    return TAPSwinTransformer(**{**TOY, **kwargs}, tap=tap)


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize('kwargs', [
    dict(), dict(out_indices=(0, 1), pad_small_map=True),
    dict(use_abs_pos_embed=True, img_size=64)], ids=['plain', 'maps', 'absolute'])
def test_equals_the_host(kwargs):
    torch.manual_seed(0)
    checks.check_equals_host(build(**kwargs), SwinTransformer(**{**TOY, **kwargs}),
                             images(2, 3, 64, 48))  # 16 x 12 tokens: the second stage is padded


@pytest.mark.parametrize('tap', [TAP, None])
def test_gradients(tap):
    checks.check_gradients(build(tap, drop_path_rate=0.), images(2, 3, 64, 48))


def test_checkpointing():
    checks.check_checkpointing(build(), build(with_cp=True), images(2, 3, 64, 64))


def test_autocast():
    checks.check_autocast(build(), images(2, 3, 64, 64))


def test_round_trip():
    checks.check_round_trip(build(), build(), images(1, 3, 64, 64))


@pytest.mark.parametrize('tap', [TAP, None])
def test_diversification_is_the_dense_formula(tap):
    checks.check_diversification(build(tap, drop_path_rate=0.), images(2, 3, 64, 64), 4)


@pytest.mark.parametrize('variant', ['paper', 'official'])
@pytest.mark.parametrize('heads', ['mean', 'per_head'])
def test_windows_report_what_queries_and_keys_would(variant, heads):
    """A matrix that is shown counts as the same attention computed from queries and keys."""
    logits = images(3, 2, 5, 7).double()
    loss = AttentionDiversificationLoss(tau=1., variant=variant, heads=heads)
    with loss.listen() as records:
        eye = torch.eye(7, dtype=torch.float64).expand(3, 2, 7, 7)
        observe(attend(logits, eye, eye, scale=1.))
    attended, observed = records
    assert observed.num_queries == attended.num_queries == 5
    torch.testing.assert_close(observed.column_sum, attended.column_sum)
    torch.testing.assert_close(observed.normalized_column_sum, attended.normalized_column_sum)


def test_every_window_is_a_map_of_its_own():
    model = build().eval()
    recorder = checks.DenseListener()
    with listening(recorder), torch.no_grad():
        model(images(2, 3, 64, 64))
    # 2 images of 4 x 4, then 2 x 2 windows of 4 x 4 tokens
    assert [tuple(m.shape) for m in recorder.maps] == [(32, 16, 16)] * 2 + [(8, 16, 16)] * 2


def test_listening_changes_nothing():
    checks.check_listening_changes_nothing(build(), images(2, 3, 64, 64))


def test_attention_dropout_is_refused_while_listening():
    cfg = dict(block_cfgs=dict(attn_cfgs=dict(attn_drop=.1)))
    checks.check_refuses_attention_dropout(build(stage_cfgs=cfg), images(2, 3, 64, 64))


def test_other_window_attention_works():
    cfg = dict(block_cfgs=dict(attn_cfgs=dict(window_msa=WindowMSAV2)))
    model = build(stage_cfgs=cfg, drop_path_rate=0.)
    checks.check_diversification(model, images(2, 3, 64, 64), 4)


def test_frozen_stages_keep_their_pooling():
    model = build(frozen_stages=0).train()
    assert model is model.train()
    trained = {n.split('.blocks')[0] for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {'stages.1', 'norm1.weight', 'norm1.bias'}
    assert not model.stages[0].blocks[0].tap.training


def test_old_checkpoints_load():
    """The host's first versions named the last norm otherwise and stored the shift masks."""
    host = SwinTransformer(**TOY)
    state = dict(host.state_dict())
    old = {k.replace('norm1.', 'norm.') if k.startswith('norm1.') else k: v
           for k, v in state.items()}
    old['stages.0.blocks.1.attn.attn_mask'] = torch.zeros(4, 16, 16)
    model = build(tap=None)
    result = model.load_state_dict(old, strict=False)
    assert not result.unexpected_keys and not result.missing_keys


def test_training_step():
    model = checks.build_model('mmpretrain', dict(
        type='RobustModel', host='mmpretrain.ImageClassifier',
        diversification=dict(type='AttentionDiversificationLoss'),
        backbone=dict(type='TAPSwinTransformer', tap=TAP, **TOY),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=3, in_channels=16,
                  loss=dict(type='CrossEntropyLoss'))))
    checks.check_classifier_learns(model, images(4, 3, 64, 64))
