"""Noise on random patches, and on those that a trained corruption model chooses."""
import pytest
import torch
from attack_tools import (
    BACKBONE,
    PATCH,
    PREPROCESSOR,
    accuracy,
    classifier_batch,
    trained_classifier,
)
from mmengine.registry import MODELS

from mmrobust.attacks.patch_corruption import PatchCorruptionAttack
from mmrobust.evaluation import get_protocol
from mmrobust.models.alignment import PatchCorruptionModel


def pixels(data):
    return torch.stack(list(data['inputs'])).float() / 255


def changed_patches(before, after):
    changed = (before - after).abs().amax(1) > 1e-3
    patches = changed.unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH)
    return patches.any(-1).any(-1).flatten(1)


def seeker():
    """A corruption model that goes for what differs from grey."""
    model = PatchCorruptionModel(grid=4, patch_size=PATCH)
    with torch.no_grad():
        model.patch_embed.weight.fill_(1 / PATCH ** 2)
        model.fc.weight.copy_(-torch.eye(16))
    return model


def test_random_patches():
    model, data = trained_classifier(), classifier_batch(8)
    attack = PatchCorruptionAttack(ratio=.25, patch_size=PATCH)
    attacked = pixels(attack(model, data))
    assert (changed_patches(pixels(data), attacked).sum(1) == 4).all()
    assert attacked.min() >= 0 and attacked.max() <= 1
    torch.testing.assert_close(attacked, pixels(attack(model, data)))
    other = pixels(PatchCorruptionAttack(ratio=.25, patch_size=PATCH, seed=1)(model, data))
    assert not torch.equal(changed_patches(pixels(data), other),
                           changed_patches(pixels(data), attacked))


def test_noise_is_uniform_in_normalised_space():
    model, data = trained_classifier(), classifier_batch(16)
    attacked = PatchCorruptionAttack(ratio=.9, patch_size=PATCH)(model, data)
    inputs = model.data_preprocessor(attacked, False)['inputs']
    changed = changed_patches(pixels(data), pixels(attacked)).unflatten(1, (4, 4))
    mask = changed.repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2)
    noise = inputs.permute(0, 2, 3, 1)[mask]
    assert noise.min() > -1e-5 and noise.max() < 1 + 1e-5
    assert noise.mean() == pytest.approx(.5, abs=.02)


def test_chosen_patches_hurt_more_than_random_ones(tmp_path):
    model, data = trained_classifier(), classifier_batch(48)
    state = {f'alignment.corruption.{k}': v for k, v in seeker().state_dict().items()}
    checkpoint = tmp_path / 'afat.pth'
    torch.save(dict(state_dict=state), checkpoint)
    chosen, random = (accuracy(model, PatchCorruptionAttack(
        ratio=.1, patch_size=PATCH, fill='drop', chosen_by=by)(model, data))
        for by in (str(checkpoint), None))
    assert chosen < .6 < random


def test_the_models_own_corruption_model():
    model = MODELS.build(dict(
        type='RobustModel', host='mmpretrain.ImageClassifier',
        backbone=dict(BACKBONE, out_type='cls_token'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=24),
        data_preprocessor=PREPROCESSOR,
        alignment=dict(type='AdversarialFeatureAlignment', corruption=dict(
            type='PatchCorruptionModel', patch_size=PATCH, grid=4)))).eval()
    model.alignment.corruption.load_state_dict(seeker().state_dict())
    data = classifier_batch(8)
    attacked = PatchCorruptionAttack(chosen_by='model')(model, data)
    expected = model.alignment.corruption.keep(
        model.alignment.corruption.scores(model.data_preprocessor(data, False)['inputs']))
    assert torch.equal(changed_patches(pixels(data), pixels(attacked)),
                       expected.flatten(1) == 0)


def test_errors(tmp_path):
    model, data = trained_classifier(), classifier_batch(2)
    with pytest.raises(ValueError, match=r'ratio=1.5 is outside \[0, 1\)'):
        PatchCorruptionAttack(ratio=1.5)
    with pytest.raises(ValueError, match='not a multiple of the patch of 12 x 12'):
        PatchCorruptionAttack(patch_size=12)(model, data)
    with pytest.raises(ValueError, match='the model has no corruption model'):
        PatchCorruptionAttack(chosen_by='model')(model, data)
    torch.save(dict(state_dict={'backbone.weight': torch.zeros(1)}), tmp_path / 'plain.pth')
    with pytest.raises(ValueError, match='plain.pth holds no corruption model'):
        PatchCorruptionAttack(chosen_by=str(tmp_path / 'plain.pth'))


def test_a_work_dir_names_its_last_checkpoint(tmp_path):
    """As everywhere; the file itself belongs to the identity of a run."""

    torch.save({'state_dict': {}}, tmp_path / 'epoch_2.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_2.pth'))
    cell = get_protocol('patch-corruption', masks=0, chosen_by=str(tmp_path)).cells[-1]
    assert cell.attack['chosen_by'] == str(tmp_path / 'epoch_2.pth')
    with pytest.raises(FileNotFoundError, match="no checkpoint at 'nowhere.pth'"):
        get_protocol('patch-corruption', chosen_by='nowhere.pth')
