import numpy as np
import pytest
from scipy.stats import ks_2samp

from mmrobust.corruptions import corrupt, noise
from mmrobust.corruptions.severities import SEVERITIES

TYPES = ('gaussian_noise', 'shot_noise', 'impulse_noise', 'speckle_noise')
CELLS = [(name, family, severity) for name in TYPES for family in SEVERITIES
         for severity in (0, 4)]


@pytest.mark.parametrize(('name', 'family', 'severity'), CELLS)
def test_tables_hold_the_transitions(name, family, severity):
    transitions = getattr(noise, f'_{name.removesuffix("_noise")}_transitions')
    parameter = SEVERITIES[family][name][severity]
    exact = transitions(parameter)
    np.testing.assert_allclose(exact.sum(axis=1), 1, atol=1e-12)
    threshold, alias = noise._alias_tables(transitions, parameter)
    drawn = np.zeros((256, 256))
    rows = np.arange(256)[:, None]
    np.add.at(drawn, (rows, np.arange(256)), threshold / 65536)
    np.add.at(drawn, (rows, alias), (256. - threshold) / 65536)
    assert np.abs(drawn - exact).max() <= 1 / 65536


@pytest.mark.parametrize('name', TYPES)
@pytest.mark.parametrize('severity', [1, 5])
def test_draws_are_distributed_like_the_replay(name, severity):
    for level in (0, 30, 128, 250, 255):
        image = np.full((200, 250, 3), level, np.uint8)
        fast = corrupt(image, name, severity, seed=1)
        replay = corrupt(image, name, severity, rng=np.random.RandomState(1))
        assert ks_2samp(fast.ravel(), replay.ravel()).pvalue > 1e-4


def test_values_are_independent():
    image = np.full((300, 300, 3), 128, np.uint8)
    x = corrupt(image, 'gaussian_noise', 2, seed=0).astype(float) - 128
    for a, b in ((x[1:], x[:-1]), (x[:, 1:], x[:, :-1]), (x[..., 1:], x[..., :-1])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < .01


def test_impulses_are_rare_and_extreme():
    image = np.full((400, 400, 3), 77, np.uint8)
    noisy = corrupt(image, 'impulse_noise', 3, seed=0)
    assert set(np.unique(noisy)) == {0, 77, 255}
    assert abs((noisy != 77).mean() - .09) < .002
