"""PGD against the authors' steps, its guarantees, and what it does to a trained model."""
import copy
import json

import pytest
import torch
import torch.nn.functional as F
from attack_tools import (
    accuracy,
    classifier_batch,
    segmentation_batch,
    segmentor,
    trained_classifier,
)

from mmrobust.attacks.patch_fool import PatchFool
from mmrobust.attacks.pgd import PGD, projected_gradient
from mmrobust.attacks.victim import Victim
from mmrobust.models.backbones.rvt import RVT

STD = torch.tensor([.229, .224, .225])[:, None, None]
MEAN = torch.tensor([.485, .456, .406])[:, None, None]


@pytest.mark.parametrize(('name', 'settings'), [
    ('fgsm1', dict(radius=1., step_size=1., steps=1)),
    ('pgd5_rspc', dict(radius=8., step_size=2., steps=5)),
    ('pgd5_rvt', dict(radius=1., step_size=.5, steps=5)),
    ('pgd5_noinit', None)])
def test_steps_are_the_authors(parity, name, settings):
    fixture = parity('pgd')
    info = json.loads(str(fixture['meta']))
    settings = settings or dict(radius=8., step_size=2., steps=5)
    args = info['kwargs']
    backbone = RVT(dict(embed_dims=(args['base_dims'][0] * args['heads'][0],),
                        depths=args['depth'], num_heads=args['heads']), out_type='avg_featmap')
    backbone.eval().load_state_dict({
        key[4:]: torch.from_numpy(fixture[key]) for key in fixture.files
        if key.startswith('sd::') and not key.startswith('sd::head.')})
    weight, bias = (torch.from_numpy(fixture[f'sd::head.{part}']) for part in ('weight', 'bias'))
    labels = torch.from_numpy(fixture['labels'])

    def logits(images):
        return F.linear(backbone(images)[0], weight, bias)

    settings = {key: value if key == 'steps' else value / 255 / STD
                for key, value in settings.items()}
    start = f'{name}::init_delta'
    adversarial = projected_gradient(
        torch.from_numpy(fixture['input']),
        lambda images: F.cross_entropy(logits(images), labels), **settings,
        start=torch.from_numpy(fixture[start]) if start in fixture.files else None,
        low=-MEAN / STD, high=(1 - MEAN) / STD)
    expected = torch.from_numpy(fixture[f'{name}::adv'])
    # a gradient whose sign is decided by rounding moves a pixel the other way
    assert ((adversarial - expected).abs() < 2e-5).float().mean() > .999
    with torch.no_grad():
        torch.testing.assert_close(
            logits(adversarial), torch.from_numpy(fixture[f'{name}::logits']), rtol=0, atol=2e-4)


def pixels(data):
    return torch.stack(list(data['inputs'])).float() / 255


@pytest.mark.parametrize('stacked', [False, True])
def test_stays_in_ball_and_range_and_beats_noise(stacked):
    model, data = trained_classifier(), classifier_batch(stacked=stacked)
    clean = pixels(data)
    victim = Victim(model, data)
    for radius in (2 / 255, 8 / 255, 64 / 255):
        attacked = PGD(radius, radius / 4)(model, data)
        assert type(attacked['inputs']) is type(data['inputs'])
        difference = (pixels(attacked) - clean).abs().max()
        assert .9 * radius < difference <= radius + 1e-6
        assert pixels(attacked).min() >= 0 and pixels(attacked).max() <= 1
        noise = clean + radius * (2 * torch.rand_like(clean) - 1).sign()
        with torch.no_grad():
            worst, noisy, unharmed = (victim.losses(x).mean()
                                      for x in (pixels(attacked), noise.clamp(0, 1), clean))
        assert worst - unharmed > 3 * (noisy - unharmed).abs()


def test_accuracy_falls_with_the_radius():
    model, data = trained_classifier(), classifier_batch(64)
    rates = [accuracy(model, data)]
    rates += [accuracy(model, PGD(radius / 255, radius / 1020)(model, data))
              for radius in (1, 4, 8, 16, 32)]
    assert rates[0] > .95
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < .1


def test_depends_on_the_image_not_on_its_place():
    model, data = trained_classifier(), classifier_batch(8)
    order = [5, 2, 7, 0, 1, 6, 3, 4]
    shuffled = {key: [value[i] for i in order] for key, value in data.items()}
    attack = PGD(steps=1)
    torch.testing.assert_close(pixels(attack(model, data))[order], pixels(attack(model, shuffled)))
    other = pixels(PGD(steps=1, seed=1)(model, data))
    assert not torch.equal(pixels(attack(model, data)), other)


def test_gradient_passes_the_preprocessor():
    """Channels are swapped and scaled in between: the loss of the batch is the loss attacked."""
    model, data = trained_classifier(), classifier_batch(8)
    victim = Victim(model, data)
    inputs = model.data_preprocessor(data, False)['inputs']
    torch.testing.assert_close(victim.normalise(victim.images), inputs)
    torch.testing.assert_close(victim.denormalise(inputs), victim.images)
    before = torch.stack(list(data['inputs']))
    PGD()(model, data)
    assert torch.equal(torch.stack(list(data['inputs'])), before)


@pytest.mark.parametrize('test_cfg', [
    dict(mode='whole'), dict(mode='slide', crop_size=(32, 32), stride=(16, 16))])
def test_segmentation(test_cfg):
    model, data = segmentor(**test_cfg), segmentation_batch()
    victim = Victim(model, data)
    attacked = PGD(8 / 255, 2 / 255)(model, data)
    noise = (pixels(data) + 8 / 255 * torch.randn(1, 3, 32, 48).sign()).clamp(0, 1)
    with torch.no_grad():
        clean, worst, noisy = (victim.losses(x).item()
                               for x in (victim.images, pixels(attacked), noise))
    assert worst - clean > 3 * abs(noisy - clean)
    result = model.test_step(attacked)[0]
    assert result.pred_sem_seg.data.shape == (1, 64, 96)


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(steps=0), 'steps=0 must be above 0: an attack needs at least 1 step'),
    (dict(radius=0.), 'radius=0.0 must be above 0'),
    (dict(step_size=-1.), 'step_size=-1.0 must be above 0'),
    (dict(step_size=float('nan')), 'step_size=nan must be above 0'),
    (dict(radius=float('inf')), 'radius=inf must be above 0'),
    (dict(radius=300 / 255), 'radius=1.17647.* must be at most 1'),
    (dict(steps=2.5), 'steps=2.5 must be a whole number'),
    (dict(radius='8'), 'radius=8 must be a number'),
    (dict(steps=True), 'steps=True must be a number')])
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        PGD(**settings)


def test_bad_batches():
    model, data = trained_classifier(), classifier_batch(2)
    with pytest.raises(ValueError, match='leave the normalisation to the data_preprocessor'):
        PGD()(model, dict(data, inputs=[image.float() for image in data['inputs']]))
    with pytest.raises(ValueError, match='test_dataloader.batch_size=1'):
        PGD()(model, dict(data, inputs=[data['inputs'][0], data['inputs'][1][:, 8:]]))
    with pytest.raises(ValueError, match='neither gt_label'):
        PGD()(model, dict(data, data_samples=[type(s)() for s in data['data_samples']]))


def saturated():
    """A classifier so sure of itself that its loss is exactly zero, and so is the gradient."""
    model = copy.deepcopy(trained_classifier())
    with torch.no_grad():
        model.head.fc.weight.mul_(0)
        model.head.fc.bias.copy_(torch.tensor([1000., 0., 0.]))
    return model


@pytest.mark.parametrize('attack', [PGD(steps=2), PatchFool(
    patch_size=8, steps=2, attention_weight=0, choice='random')])
def test_images_without_a_gradient_are_counted(attack):
    data = classifier_batch(4)
    attack(trained_classifier(), data)
    assert attack.unmoved == [False] * 4
    attack(saturated(), data)
    assert attack.unmoved == [False] * 4 + [True] * 4
