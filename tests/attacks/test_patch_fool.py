"""Patch-Fool: where it strikes, what it may change, and that its parts pull their weight."""
import pytest
import torch
from attack_tools import (
    PATCH,
    SIZE,
    accuracy,
    build_classifier,
    classifier_batch,
    trained_classifier,
)

from mmrobust.attacks.patch_fool import AttentionReader, PatchFool, without_conflict
from mmrobust.models.layers import listening

QUICK = dict(patch_size=PATCH, choice_layer=1, steps=20)


def pixels(data):
    return torch.stack(list(data['inputs'])).float() / 255


def changed_patches(before, after):
    changed = (before - after).abs().amax(1) > 1e-6
    patches = changed.unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH)
    return patches.any(-1).any(-1).flatten(1)


@pytest.mark.parametrize('choice', ['attention', 'saliency', 'random'])
def test_changes_the_chosen_patches_only(choice):
    model, data = trained_classifier(), classifier_batch(6)
    attacked = PatchFool(**QUICK | dict(steps=2), num_patches=2, choice=choice)(model, data)
    assert (changed_patches(pixels(data), pixels(attacked)).sum(1) == 2).all()
    assert pixels(attacked).min() >= 0 and pixels(attacked).max() <= 1


def test_attention_beats_a_random_patch():
    model, data = trained_classifier(), classifier_batch(48)
    full, random = (accuracy(model, PatchFool(**QUICK, choice=choice)(model, data))
                    for choice in ('attention', 'random'))
    assert full < random < accuracy(model, data)


def test_strikes_where_attention_goes():
    model, data = trained_classifier(), classifier_batch(6)
    reader = AttentionReader(lambda attention: attention.mean(1))
    with torch.no_grad(), listening(reader):
        model(model.data_preprocessor(data, False)['inputs'])
    attacked = PatchFool(**QUICK | dict(steps=1))(model, data)
    struck = changed_patches(pixels(data), pixels(attacked)).int().argmax(1)
    assert torch.equal(struck, reader.values[QUICK['choice_layer']].argmax(1))


def test_attention_term_draws_attention():
    model, data = trained_classifier(), classifier_batch(6)
    paid = []
    for weight in (0., 10.):
        attacked = PatchFool(**QUICK, attention_weight=weight)(model, data)
        struck = changed_patches(pixels(data), pixels(attacked)).int().argmax(1)
        reader = AttentionReader(lambda attention, struck=struck:
                                 attention.mean(1)[range(6), struck].log().mean())
        with torch.no_grad(), listening(reader):
            model(model.data_preprocessor(attacked, False)['inputs'])
        paid.append(reader.values[1])  # with four layers only this one enters the loss
    assert paid[1] > paid[0]


def test_radius():
    model, data = trained_classifier(), classifier_batch(6)
    attacked = PatchFool(**QUICK, radius=4 / 255)(model, data)
    difference = (pixels(data) - pixels(attacked)).abs().max()
    assert 3 / 255 < difference <= 4 / 255 + 1e-6


def test_class_token_is_no_patch():
    backbone = dict(type='TAPVisionTransformer', img_size=SIZE, patch_size=PATCH,
                    arch=dict(embed_dims=24, num_layers=4, num_heads=2, feedforward_channels=24))
    model, data = build_classifier(backbone).eval(), classifier_batch(4)
    for layer in range(4):
        attacked = PatchFool(**QUICK | dict(steps=1, choice_layer=layer))(model, data)
        assert (changed_patches(pixels(data), pixels(attacked)).sum(1) == 1).all()


def test_pyramid_whose_later_stages_have_fewer_tokens():
    backbone = dict(type='RVT', out_type='avg_featmap', arch=dict(
        patch_size=PATCH, embed_dims=(12, 24), depths=(4, 1), num_heads=(2, 2)))
    model, data = build_classifier(backbone).eval(), classifier_batch(4)
    attacked = PatchFool(**QUICK | dict(steps=2))(model, data)
    assert (changed_patches(pixels(data), pixels(attacked)).sum(1) == 1).all()
    with pytest.raises(ValueError, match='does not see each of the 4 x 4 patches once'):
        PatchFool(**QUICK | dict(choice_layer=4))(model, data)


def test_conflicting_gradients():
    main = torch.tensor([1., 0.]).view(1, 1, 1, 2).repeat(2, 1, 1, 1) * 3
    other = torch.tensor([[-2., 5.], [2., 5.]]).view(2, 1, 1, 2)
    expected = torch.tensor([[0., 5.], [2., 5.]]).view(2, 1, 1, 2)
    torch.testing.assert_close(without_conflict(other, main), expected)


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(steps=0), 'steps=0 must be above 0'),
    (dict(lr=0.), 'lr=0.0 must be above 0'),
    (dict(num_patches=0), 'num_patches=0 must be above 0'),
    (dict(radius=0.), 'radius=0.0 must be above 0'),
    (dict(choice='best'), "choice='best': choose attention, saliency, random")])
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        PatchFool(**settings)


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(patch_size=12), 'an image of 32 x 32 pixels is not a multiple of the patch of 12 x 12'),
    (dict(patch_size=16), 'does not see each of the 2 x 2 patches once'),
    (dict(choice_layer=4), 'choice_layer=4: the model has 4 self-attention layers'),
    (dict(num_patches=17), 'an image has only 16 patches')])
def test_settings_that_do_not_fit_the_model(settings, message):
    with pytest.raises(ValueError, match=message):
        PatchFool(**QUICK | settings)(trained_classifier(), classifier_batch(2))


def test_backbone_without_attention():
    resnet = dict(type='mmpretrain.ResNet', depth=18, stem_channels=8, base_channels=8)
    model = build_classifier(resnet, neck=dict(type='mmpretrain.GlobalAveragePooling')).eval()
    model.head.fc = torch.nn.Linear(64, 3)
    data = classifier_batch(2)
    with pytest.raises(ValueError, match='ResNet has no self-attention that Patch-Fool can read'):
        PatchFool(**QUICK)(model, data)
    PatchFool(**QUICK | dict(steps=2), choice='saliency', attention_weight=0)(model, data)
