"""What attacks ascend on, for every kind of head."""
import pytest
import torch
import torch.nn.functional as F
from attack_tools import (
    BACKBONE,
    build_classifier,
    classifier_batch,
    segmentation_batch,
    segmentor,
    trained_classifier,
)
from mmengine.model import BaseTTAModel
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from torch import nn

from mmrobust.attacks.patch_fool import PatchFool
from mmrobust.attacks.pgd import PGD
from mmrobust.attacks.victim import Victim, without_checkpointing


def loss_and_change(model, data, attack=None):
    """Losses of the batch before and after an attack."""
    victim = Victim(model, data)
    attacked = (attack or PGD(8 / 255, 4 / 255, steps=3, random_start=False))(model, data)
    with torch.no_grad():
        after = victim.losses(torch.stack(list(attacked['inputs'])).float() / 255)
        return victim.losses(victim.images), after


def logits_at_labels(model, data):
    batch = model.data_preprocessor(data, False)
    with torch.no_grad():
        logits = model.encode_decode(
            batch['inputs'], [sample.metainfo for sample in batch['data_samples']])
    return F.interpolate(logits, data['data_samples'][0].gt_sem_seg.shape, mode='bilinear')


def with_head(**head):
    """A segmentor with another head of four classes, or a cascade of it."""
    model = segmentor(mode='whole')
    model.decode_head = MODELS.build({**dict(
        type='mmseg.FCNHead', in_channels=24, in_index=0, channels=8, num_classes=4, num_convs=1,
        concat_input=False, loss_decode=dict(type='mmseg.CrossEntropyLoss')), **head}).eval()
    return model


def test_one_channel_is_a_choice_of_two():
    model, data = with_head(num_classes=2, out_channels=1, threshold=.5, loss_decode=dict(
        type='mmseg.CrossEntropyLoss', use_sigmoid=True)), segmentation_batch()
    labels = data['data_samples'][0].gt_sem_seg.data
    labels[labels < 255] %= 2
    before, after = loss_and_change(model, data)
    logits, known = logits_at_labels(model, data)[0], labels != 255
    expected = F.binary_cross_entropy_with_logits(logits[known], labels[known].float())
    torch.testing.assert_close(before[0], expected)
    assert after > before


def test_sigmoid_of_each_class():
    model, data = with_head(loss_decode=dict(
        type='mmseg.CrossEntropyLoss', use_sigmoid=True)), segmentation_batch()
    before, after = loss_and_change(model, data)
    labels = data['data_samples'][0].gt_sem_seg.data[0]
    logits = logits_at_labels(model, data)[0].movedim(0, -1)[labels != 255]
    targets = F.one_hot(labels[labels != 255], 4).float()
    expected = F.binary_cross_entropy_with_logits(logits, targets, reduction='none').sum(1).mean()
    torch.testing.assert_close(before[0], expected)
    assert after > before


def test_the_last_head_of_a_cascade_predicts():
    head = dict(type='mmseg.FCNHead', in_channels=24, in_index=0, channels=8, num_classes=4,
                num_convs=1, concat_input=False)
    ocr = dict(type='mmseg.OCRHead', in_channels=24, in_index=0, channels=8, ocr_channels=8,
               num_classes=4)
    whole = segmentor(mode='whole')
    model = MODELS.build(dict(
        type='mmseg.CascadeEncoderDecoder', num_stages=2, backbone=dict(
            BACKBONE, out_type='featmap', out_indices=(3,)), decode_head=[head, ocr],
        data_preprocessor=whole.data_preprocessor, test_cfg=whole.test_cfg)).eval()
    data = segmentation_batch()
    before, after = loss_and_change(model, data)
    labels = data['data_samples'][0].gt_sem_seg.data
    torch.testing.assert_close(before[0], F.cross_entropy(
        logits_at_labels(model, data), labels, ignore_index=255))
    assert after > before




def test_checkpointing_is_off_during_attacks_only():
    model = build_classifier(backbone=dict(
        type='mmpretrain.SwinTransformer', arch=dict(
            embed_dims=24, depths=[1, 1], num_heads=[2, 2]), img_size=32, patch_size=4,
        window_size=4, with_cp=True, out_indices=(1,)))
    model.head.fc = nn.Linear(48, 3)
    model.neck = MODELS.build(dict(type='mmpretrain.GlobalAveragePooling'))
    model.eval()
    checkpointed = [m for m in model.modules() if getattr(m, 'with_cp', False)]
    assert checkpointed
    before, after = loss_and_change(model, classifier_batch(4))
    assert (after > before).all()
    assert all(module.with_cp for module in checkpointed)
    with pytest.raises(RuntimeError), without_checkpointing(model):
        assert not any(module.with_cp for module in checkpointed)
        raise RuntimeError
    assert all(module.with_cp for module in checkpointed)


def test_several_labels_take_the_heads_own_loss():
    model = build_classifier()
    model.head = MODELS.build(dict(
        type='mmpretrain.MultiLabelLinearClsHead', num_classes=3, in_channels=24,
        loss=dict(type='mmpretrain.CrossEntropyLoss', use_sigmoid=True)))
    model.eval()
    data = classifier_batch(2)
    data['data_samples'] = [DataSample().set_gt_label([0, 2]), DataSample().set_gt_label([1])]
    before, after = loss_and_change(model, data)
    batch = model.data_preprocessor(data, False)
    expected = model.loss(batch['inputs'], batch['data_samples'])['loss']
    torch.testing.assert_close(before.mean(), expected)
    assert (after > before).all()
    with pytest.raises(ValueError, match='several labels, LinearClsHead predicts one'):
        PGD()(trained_classifier(), data)


class Several(nn.Module):
    """A head that adds up two predictions, as Conformer's does."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, feats):
        return [self.head(feats), self.head(feats)]

    def predict(self, feats, samples):
        return self.head._get_predictions(sum(self(feats)), samples)


def test_several_logits_are_attacked_by_the_probability_they_give():
    model = build_classifier()
    model.head = Several(model.head)
    model.eval()
    data = classifier_batch(3)
    before, after = loss_and_change(model, data)
    batch = model.data_preprocessor(data, False)
    with torch.no_grad():
        logits = 2 * model(batch['inputs'], mode='tensor')[0]
    labels = torch.cat([sample.gt_label for sample in data['data_samples']])
    torch.testing.assert_close(before, F.cross_entropy(logits, labels, reduction='none'))
    assert (after > before).all()


@pytest.mark.parametrize(('model', 'data', 'label'), [
    (trained_classifier, classifier_batch, 7), (lambda: segmentor(mode='whole'),
                                                segmentation_batch, 77)])
def test_labels_of_other_classes(model, data, label):
    model, data = model(), data()
    sample = data['data_samples'][0]
    if 'gt_label' in sample:
        sample.set_gt_label(label)
    else:
        sample.gt_sem_seg.data[0, -1, -1] = label
    with pytest.raises(ValueError, match=f'labels go from 0 to {label}, the model predicts . cl'):
        PGD()(model, data)


def test_what_cannot_be_attacked():
    class Average(BaseTTAModel):
        def merge_preds(self, samples):
            return samples

    with pytest.raises(ValueError, match='leave out --tta'):
        PGD()(Average(trained_classifier()), dict(inputs=[[]], data_samples=[[]]))

    data = classifier_batch(2)
    for nested in (dict(data, inputs=[data['inputs']]),
                   dict(data, data_samples=[data['data_samples']])):
        with pytest.raises(ValueError, match='leave out --tta'):  # whoever unwrapped the model
            PGD()(trained_classifier(), nested)

    class Silent(nn.Module):
        forward = torch.no_grad()(lambda self, feats: feats[0][:, :3])

    model = build_classifier()
    model.head = Silent()
    with pytest.raises(ValueError, match='no gradient passes from the prediction to the image'):
        PGD()(model.eval(), classifier_batch(2))

    model = segmentor(mode='whole')
    del model.decode_head.loss_decode
    with pytest.raises(ValueError, match='FCNHead of EncoderDecoder predicts no logits'):
        PGD()(model, segmentation_batch())


def test_a_gradient_that_is_not_finite():
    model = build_classifier().eval()
    with torch.no_grad():
        model.head.fc.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match='gradient of the loss is not finite'):
        PGD()(model, classifier_batch(2))


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(lr=float('nan')), 'lr=nan must be above 0'),
    (dict(lr_decay=2), 'lr_decay=2 must be at most 1'),
    (dict(attention_weight=-1), 'attention_weight=-1 must be above 0'),
    (dict(radius=2), 'radius=2 must be at most 1'),
    (dict(num_patches=1.5), 'num_patches=1.5 must be a whole number')])
def test_bad_settings_of_patch_fool(settings, message):
    with pytest.raises(ValueError, match=message):
        PatchFool(**settings)
