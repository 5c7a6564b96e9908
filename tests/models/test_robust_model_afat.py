"""Adversarial feature alignment as an objective of any model."""
import copy
import pickle

import pytest
import torch
from mmengine.registry import MODELS
from mmengine.structures import PixelData
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample
from torch import nn

from mmrobust.models.alignment.drop_path import MatchedDropPath

SIZE, PATCH = 32, 8
FAN = dict(type='FAN', out_type='cls_token',
           arch=dict(patch_embed='conv', patch_size=8, depths=(2,), embed_dims=(16,),
                     num_heads=(2,)))
RVT = dict(type='RVT', out_type='avg_featmap',
           arch=dict(embed_dims=(16, 32), depths=(1, 1), num_heads=(2, 4), patch_size=8))
VIT = dict(type='mmpretrain.VisionTransformer', img_size=SIZE, patch_size=8,
           arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32))
ADL = dict(type='AttentionDiversificationLoss')


def classifier(backbone=FAN, alignment=(), width=None, plain=False, **kwargs):
    alignment = dict(dict(gradient_scale=1.), **dict(alignment))
    corruption = dict(dict(type='PatchCorruptionModel', grid=4, patch_size=PATCH, ratio=.25),
                      **alignment.pop('corruption', {}))
    if corruption['type'] == 'RandomPatchCorruption':
        del corruption['grid']
    if not plain:
        kwargs['alignment'] = dict(type='AdversarialFeatureAlignment', corruption=corruption,
                                   **alignment)
    torch.manual_seed(0)
    return MODELS.build(dict(
        type='RobustModel', host='mmpretrain.ImageClassifier', backbone=backbone,
        head=dict(type='mmpretrain.LinearClsHead', num_classes=3,
                  in_channels=32 if backbone['type'] == 'RVT' else 16),
        data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3, num_classes=3), **kwargs))


def batch(size=4):
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(size, 3, SIZE, SIZE, generator=generator) * 2 - 1
    return images, [DataSample().set_gt_label(i % 3) for i in range(size)]


def freeze_statistics(model):
    """Without batch statistics the clean half does not depend on the corrupted one."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return model


def gradients(model, losses):
    total, _ = model.parse_losses(losses)
    model.zero_grad()
    total.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize('backbone', [FAN, RVT, VIT], ids=lambda b: b['type'])
def test_heads_see_the_clean_half(backbone):
    model, plain = classifier(backbone), classifier(backbone, plain=True)
    plain.load_state_dict(model.state_dict(), strict=False)
    losses = freeze_statistics(model).loss(*batch())
    expected = freeze_statistics(plain).loss(*batch())
    torch.testing.assert_close(losses['loss'], expected['loss'])
    assert losses['loss_alignment'] > 0
    grads = gradients(model, losses)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == set(grads)
    assert all(grads[f'alignment.corruption.{name}.weight'].any() for name in ('patch_embed', 'fc'))


def test_every_token_mixing_block_is_aligned_and_nothing_stays():
    model = classifier()
    blocks = model.alignment.aligned_blocks(model.backbone)
    assert blocks == list(model.backbone.blocks)
    model.loss(*batch())
    assert not any(block._forward_hooks for block in blocks)
    assert '_pass' not in vars(model)
    pickle.loads(pickle.dumps(model))
    with pytest.raises(ValueError, match='not a multiple of the patch'):
        model.loss(torch.zeros(2, 3, 36, 32), batch(2)[1])
    assert not any(block._forward_hooks for block in blocks)
    assert '_pass' not in vars(model)


@pytest.mark.parametrize(('backbone', 'count'), [
    (dict(type='TAPSwinTransformer', img_size=64, window_size=2, patch_size=4, drop_path_rate=.1,
          arch=dict(embed_dims=8, depths=[2, 1, 1, 1], num_heads=[1, 2, 2, 2])), 5),
    (dict(type='TAPMixVisionTransformer', embed_dims=8, num_stages=2, num_layers=[1, 2],
          num_heads=[1, 2], patch_sizes=[7, 3], strides=[4, 2], sr_ratios=[2, 1],
          out_indices=(0, 1)), 3),
    (dict(type='mmseg.VisionTransformer', img_size=64, patch_size=8, embed_dims=8, num_layers=2,
          num_heads=2), 2),
    (dict(VIT, img_size=64), 2)], ids=['Swin', 'MiT', 'mmseg.ViT', 'mmpretrain.ViT'])
def test_blocks_of_the_hosts(backbone, count):
    backbone = MODELS.build(backbone)
    backbone.train()
    alignment = MODELS.build(dict(
        type='AdversarialFeatureAlignment', matched_drop_path=True,
        corruption=dict(type='RandomPatchCorruption', patch_size=8)))
    alignment.prepare(backbone)
    blocks, shapes = alignment.aligned_blocks(backbone), []
    assert len(blocks) == count
    for block in blocks:
        block.register_forward_hook(lambda *args: shapes.append(args[2].shape))
    backbone(torch.rand(4, 3, 64, 64))
    assert [len(shape) for shape in shapes] == [3] * count
    assert {shape[0] for shape in shapes} == {4}


def test_inference_is_the_hosts():
    model, plain = classifier(), classifier(plain=True)
    plain.load_state_dict(model.state_dict(), strict=False)
    images, samples = batch()
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images), plain.eval()(images))
    assert 'loss_alignment' not in model.loss(images, samples)
    own = {key for key in model.state_dict() if not key.startswith('alignment.')}
    assert own == set(plain.state_dict())


def test_diversification_is_of_the_clean_half():
    model = classifier(diversification=ADL)
    plain = classifier(plain=True, diversification=ADL)
    plain.load_state_dict(model.state_dict(), strict=False)
    losses = freeze_statistics(model).loss(*batch())
    expected = freeze_statistics(plain).loss(*batch())
    torch.testing.assert_close(losses['loss_adl'], expected['loss_adl'])
    assert losses['loss_alignment'] > 0


@pytest.mark.parametrize('adl', [None, ADL])
def test_checkpointing_changes_nothing(adl):
    results = []
    for with_cp in (False, True):
        model = classifier(dict(FAN, with_cp=with_cp, drop_path_rate=.3), diversification=adl)
        torch.manual_seed(2)
        results.append((gradients(model.train(), model.loss(*batch())),
                        dict(model.named_buffers())))
    for plain, checkpointed in zip(*results, strict=True):
        assert plain.keys() == checkpointed.keys()
        for name in plain:
            torch.testing.assert_close(checkpointed[name], plain[name])


def test_corruption_model_ascends_and_backbone_descends():
    model = freeze_statistics(classifier())
    images, samples = batch()

    def distance():
        torch.manual_seed(3)
        return model.loss(images, samples)['loss_alignment']

    loss = distance()
    theta = list(model.alignment.parameters())
    reversed_gradients = torch.autograd.grad(loss, theta)
    # the same without reversal
    torch.manual_seed(3)
    corrupted = model.alignment.corruption(images, torch.tensor(-1.), torch.tensor(1.))
    tokens = []
    hooks = [b.register_forward_hook(lambda *args: tokens.append(args[2]))
             for b in model.backbone.blocks]
    model.backbone(torch.cat([corrupted, images]))
    for hook in hooks:
        hook.remove()
    true_gradients = torch.autograd.grad(.005 * model.alignment.distance(tokens), theta)
    for ours, true in zip(reversed_gradients, true_gradients, strict=True):
        torch.testing.assert_close(ours, -true)


def test_cross_entropy_adversary():
    reference = freeze_statistics(classifier())
    model = freeze_statistics(classifier(alignment=dict(objective='cross_entropy')))
    images, samples = batch()
    torch.manual_seed(3)
    losses = model.loss(images, samples)
    grads = gradients(model, losses)
    torch.manual_seed(3)
    expected = gradients(reference, reference.loss(images, samples))
    assert losses['loss_adversary'] == 0
    # the model learns what it always learns
    for name, grad in expected.items():
        if not name.startswith('alignment.'):
            torch.testing.assert_close(grads[name], grad)
    # the corruption model climbs the cross-entropy of the corrupted images
    torch.manual_seed(3)
    corrupted = model.alignment.corruption(images, torch.tensor(-1.), torch.tensor(1.))
    objective = model.head.loss(model.backbone(corrupted), samples)['loss']
    torch.testing.assert_close(losses['corrupted_objective'], objective.detach())
    theta = dict(model.alignment.named_parameters())
    for name, grad in zip(theta, torch.autograd.grad(objective, theta.values()), strict=True):
        torch.testing.assert_close(grads[f'alignment.{name}'], -grad, rtol=1e-4, atol=1e-7)


def test_matched_drop_path(monkeypatch):
    for matched in (True, False):
        model = classifier(dict(FAN, drop_path_rate=.5), dict(matched_drop_path=matched))
        assert matched == any(isinstance(m, MatchedDropPath) for m in model.modules())
        monkeypatch.setattr(model.alignment.corruption, 'forward', lambda images, *_: images)
        loss = freeze_statistics(model).loss(*batch())['loss_alignment']
        assert (loss == 0) == matched


def test_norms():
    tokens = [torch.randn(6, 5, 4), torch.randn(6, 3, 8)]
    difference = [(t[:3] - t[3:]).square() for t in tokens]
    alignment = classifier().alignment
    torch.testing.assert_close(alignment.distance(tokens),
                               sum(d.mean() for d in difference) / 2.0001)
    alignment.norm = 'squared_norm'
    torch.testing.assert_close(alignment.distance(tokens),
                               sum(d.sum((1, 2)).mean() for d in difference) / 2)


def test_random_patches_and_dropping():
    model = classifier(alignment=dict(
        corruption=dict(type='RandomPatchCorruption', fill='drop')))
    assert not list(model.alignment.parameters())
    images, _ = batch()
    corrupted = model.alignment.corruption(images, torch.tensor(-1.), torch.tensor(1.))
    patches = (corrupted == 0).all(1).unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH)
    assert (patches.all(-1).all(-1).sum((1, 2)) == 4).all()  # a quarter of 16
    assert ((corrupted == images) | (corrupted == 0)).all()


@pytest.mark.parametrize('size', [(32, 32), (64, 32), (16, 48)])
def test_other_grids_than_the_corruption_models_own(size):
    model = classifier()
    images = torch.rand(2, 3, *size)
    keep = model.alignment.corruption.keep(model.alignment.corruption.scores(images))
    assert keep.shape == (2, size[0] // PATCH, size[1] // PATCH)
    assert 0 < (keep == 0).float().mean() < .6


def test_augmented_batch_counts():
    augmentation = dict(type='PatchAugmentation', patch_size=8)
    model = classifier(augmentation=augmentation, diversification=ADL)
    losses = model.train().loss(*batch())
    assert set(losses) == {'loss', 'loss_adl', 'loss_alignment', 'augmented_loss'}
    # clamped to the range of the model's own preprocessor
    assert model.augmentation(torch.full((1, 3, 8, 8), 3.)).max() == 1
    total, _ = model.parse_losses(losses)
    torch.testing.assert_close(total, sum(losses.values()))


def test_segmentor():
    backbone = dict(FAN, out_type='featmap', out_indices=(1, -1))
    head = dict(type='mmseg.FCNHead', in_channels=16, channels=8, num_classes=4, num_convs=1,
                concat_input=False, loss_decode=dict(type='mmseg.CrossEntropyLoss'))
    model = MODELS.build(dict(
        type='RobustModel', host='mmseg.EncoderDecoder', backbone=backbone,
        decode_head=dict(head, in_index=1), auxiliary_head=dict(head, in_index=0),
        data_preprocessor=dict(type='mmseg.SegDataPreProcessor', mean=[127.5] * 3,
                               std=[127.5] * 3),
        diversification=ADL, test_cfg=dict(mode='whole'),
        alignment=dict(type='AdversarialFeatureAlignment',
                       corruption=dict(type='PatchCorruptionModel', grid=4, patch_size=8))))
    images = torch.rand(2, 3, 48, 32)
    samples = []
    for _ in images:
        sample = SegDataSample()
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 4, (1, 48, 32)))
        samples.append(sample)
    losses = model.train().loss(images, samples)
    assert {'decode.loss_ce', 'aux.loss_ce', 'loss_adl', 'loss_alignment'} <= set(losses)
    grads = gradients(model, losses)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == set(grads)


def test_autocast():
    model = classifier(diversification=ADL)
    with torch.autocast('cpu', torch.bfloat16):
        losses = model.train().loss(*batch())
    assert losses['loss_alignment'].dtype == torch.float32
    grads = gradients(model, losses)
    assert all(grad.isfinite().all() for grad in grads.values())


def test_ema_copy():
    model = classifier()
    twin = copy.deepcopy(model)
    torch.manual_seed(3)
    expected = model.train().loss(*batch())
    torch.manual_seed(3)
    torch.testing.assert_close(twin.train().loss(*batch()), expected)


@pytest.mark.parametrize(('change', 'message'), [
    (dict(corruption=dict(ratio=-.1)), r'ratio=-0.1 is outside \[0, 1\)'),
    (dict(corruption=dict(ratio=1.)), r'ratio=1.0 is outside \[0, 1\)'),
    (dict(corruption=dict(fill='paint')), "fill='paint': choose 'noise' or 'drop'"),
    (dict(corruption=dict(patch_size=0)), 'at least 1 pixel'),
    (dict(loss_weight=-1.), 'drive the features apart'),
    (dict(gradient_scale=0.), 'positive multiple'),
    (dict(norm='l1'), "norm='l1'"),
    (dict(objective='nobody'), "objective='nobody'"),
    (dict(blocks='layers.9'), "blocks='layers.9' matches no module of FAN"),
])
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        classifier(alignment=change)


def test_backbone_without_attention():
    resnet = dict(type='mmpretrain.ResNet', depth=18)
    with pytest.raises(ValueError, match='ResNet has no block with a self-attention'):
        classifier(resnet)
    model = classifier(resnet, dict(blocks=r'layer\d\.\d'))
    assert len(model.alignment.aligned_blocks(model.backbone)) == 8
    model = classifier(resnet, plain=True,
                       neck=dict(type='mmpretrain.GlobalAveragePooling'),
                       diversification=dict(type='AttentionDiversificationLoss'))
    model.head.fc = torch.nn.Linear(512, 3)
    with pytest.raises(ValueError, match='no self-attention of ResNet reports to it'):
        model.loss(*batch())
