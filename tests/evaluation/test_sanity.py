"""Signs of masked gradients: each by itself, and of models that do mask them."""
import sys
from pathlib import Path

import pytest
import torch

from mmrobust.evaluation.sanity import budgets, warnings

sys.path.insert(0, str(Path(__file__).parents[1] / 'attacks'))
from attack_tools import classifier_batch, trained_classifier  # noqa: E402

from mmrobust.attacks.auto_attack import AutoAttack  # noqa: E402
from mmrobust.attacks.pgd import PGD  # noqa: E402


def results(*cells):
    return dict(metric='mIoU', cells=[dict(name='clean', metrics=dict(mIoU=70.)), *(dict(
        name=name, metrics=dict(mIoU=value), measures=measures, attack=dict(type='PGD', **attack))
        for name, value, attack, measures in cells)])


def pgd(name, value, radius, steps=5, **measures):
    return name, value, dict(radius=radius / 255, steps=steps), {
        f'attack/{key}': number for key, number in measures.items()}


@pytest.mark.parametrize(('cells', 'sign'), [
    ([pgd('pgd_8', 30., 8, loss_first=1.5, loss_last=1.4)],
     'the loss of pgd_8 does not grow with the steps (1.5 at the first, 1.4 at the last)'),
    ([pgd('pgd_4', 30., 4), pgd('pgd_8', 33., 8)],
     'pgd_8 leaves 3.00 points more than pgd_4, whose radius is smaller'),
    ([pgd('fgsm', 30., 8, steps=1), pgd('pgd', 34., 8)],
     'pgd of 5 steps leaves 4.00 points more than the single step of fgsm'),
    ([pgd('pgd_255', 60., 255)], 'pgd_255 may turn every image grey, and 60.00 of 70.00 are left'),
    ([pgd('auto', 30., 8, **{'changed_by_apgd-ce': 5., 'changed_by_square': 12.})],
     '12.00 % of the images of auto were changed by random search only')])
def test_signs(cells, sign):
    found, = warnings(results(*cells))
    assert found.startswith('GRADIENTS MAY BE MASKED') and sign in found


def test_no_signs():
    assert not warnings(results(
        pgd('fgsm', 40., 8, steps=1), pgd('pgd_4', 45., 4, loss_first=1., loss_last=2.),
        pgd('pgd_8', 38., 8), pgd('pgd_128', 1., 128),
        pgd('auto', 30., 8, **{'changed_by_apgd-ce': 5., 'changed_by_square': .5})))
    assert budgets(results(pgd('pgd_8', 38., 8))) == ['pgd_8: PGD, radius 8/255, steps 5']


class Saturated(torch.nn.Module):
    """Logits so large that the gradient of the cross-entropy is zero in single precision."""

    def __init__(self, head, factor):
        super().__init__()
        self.head, self.factor = head, factor

    def forward(self, feats):
        return self.factor * self.head(feats)


class Quantised(torch.nn.Module):
    """Grey levels rounded to a few: flat almost everywhere."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, x):
        return self.backbone((2 * x).round() / 2)


def test_models_that_mask_their_gradients(monkeypatch):
    model, data = trained_classifier(), classifier_batch(32)

    def signs():
        attack = AutoAttack(16 / 255, attacks=['apgd-ce', 'square'], steps=5, queries=150)
        attack(model, data)
        noted = {f'attack/{name}': sum(one[name] for one in attack.records) / 32
                 for name in attack.records[0]}
        return warnings(results(('auto', 30., dict(radius=16 / 255), noted))), attack.unmoved

    assert signs()[0] == []
    monkeypatch.setitem(model._modules, 'head', Saturated(model.head, 1e5))
    found, unmoved = signs()
    assert 'random search only' in found[0] and sum(unmoved) > 16
    monkeypatch.undo()
    monkeypatch.setitem(model._modules, 'backbone', Quantised(model.backbone))
    attack = PGD()
    attack(model, data)
    assert all(attack.unmoved), 'the count of these stands under the table'
