import importlib.util

import cv2
import numpy as np
import pytest
from reference import photograph
from scipy.stats import ks_2samp

from mmrobust.corruptions import corrupt, weather
from mmrobust.corruptions.streams import FastStream, ReplayStream


def test_missing_textures(monkeypatch):
    weather._texture.cache_clear()
    weather._scaled_texture.cache_clear()
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ModuleNotFoundError, match='pip install --no-deps imagecorruptions-imaug'):
        corrupt(photograph(40, 40), 'frost', 1, seed=0)


def test_frost_chooses_among_five_textures():
    draws = [FastStream(seed).integers(0, len(weather._TEXTURES)) for seed in range(60)]
    assert set(draws) == set(range(5))


def test_frost_covers_large_and_narrow_images():
    for height, width in ((32, 1200), (900, 40)):
        black = np.zeros((height, width, 3), np.uint8)
        assert corrupt(black, 'frost', 5, seed=2).mean() > 20


@pytest.mark.parametrize('decay', [1.4, 2, 3])
def test_plasma(decay):
    plasma, low, high = weather._plasma(FastStream(0), 64, 64, decay)
    assert (low, high) == (plasma.min(), plasma.max())
    assert plasma.shape == (64, 64) and plasma.dtype == np.float32
    steps = np.abs(np.diff(plasma, axis=0)).mean()
    wrap = np.abs(plasma[0] - plasma[-1]).mean()
    assert wrap < 3 * steps  # periodic


def test_plasma_of_a_long_image_is_a_part_of_a_square(monkeypatch):
    """The same statistics, whether the last levels are drawn as a whole or in part."""
    def texture() -> np.ndarray:
        return np.array([np.abs(np.diff(plasma, n=order, axis=axis)).mean() / (high - low)
                         for axis in (0, 1) for order in (1, 2)
                         for plasma, low, high in [weather._plasma(FastStream(3), 40, 1024, 2)]])

    whole = texture()
    monkeypatch.setattr(weather, '_SPARE', 1)
    part, low, high = weather._plasma(FastStream(3), 40, 1024, 2)
    assert part.shape == (40, 1024) and low <= part.min() < part.max() <= high
    np.testing.assert_allclose(texture(), whole, rtol=.35)
    with pytest.raises(ValueError, match='20000 x 40 pixels cannot replay .*: pass a seed'):
        weather._plasma(ReplayStream(np.random.RandomState(0)), 40, 20000, 2)


@pytest.mark.parametrize('family', ['imagenet', 'cifar'])
def test_a_part_of_a_texture(family, monkeypatch):
    """Frost is the same whether the texture is scaled as a whole or in part."""
    image = photograph(50, 400)
    whole = [corrupt(image, 'frost', 3, seed=seed, family=family) for seed in range(4)]
    monkeypatch.setattr(weather, '_SPARE', 0)
    for seed in range(4):
        part = corrupt(image, 'frost', 3, seed=seed, family=family)
        np.testing.assert_array_equal(part, whole[seed])


@pytest.mark.parametrize(('cubic', 'method'), [(True, cv2.INTER_CUBIC), (False, cv2.INTER_LINEAR)])
def test_textures_are_scaled_as_opencv_does(cubic, method):
    image = photograph(60, 50)
    for size in ((64, 71), (200, 90), (40, 33)):
        scaled = weather._part(image, size, cubic, 0, 0, *size)
        expected = cv2.resize(image, size[::-1], interpolation=method)
        difference = np.abs(scaled.astype(int) - expected)
        assert difference.max() <= 1 and difference.mean() < (1e-3 if cubic else .15)


def test_fog_keeps_the_maximum():
    image = photograph(48, 70) // 2
    fogged = corrupt(image, 'fog', 5, seed=0)
    assert fogged.max() <= image.max()
    assert not corrupt(np.zeros((32, 32, 3), np.uint8), 'fog', 5, seed=0).any()


@pytest.mark.parametrize('name', ['snow', 'spatter', 'fog'])
def test_fast_draws_look_like_replayed_ones(name):
    image = np.full((96, 128, 3), 60, np.uint8)
    for severity in (1, 5):
        fast = [corrupt(image, name, severity, seed=seed).mean() for seed in range(60)]
        replay = [corrupt(image, name, severity, rng=np.random.RandomState(seed)).mean()
                  for seed in range(60)]
        assert ks_2samp(fast, replay).pvalue > 1e-4


def test_fast_fields():
    fast, replay = FastStream(0), ReplayStream(np.random.RandomState(0))
    for kind, first, second in (('normal', .55, .3), ('uniform', -3, 5)):
        fields = [getattr(stream, kind)(first, second, (300, 400)) for stream in (fast, replay)]
        assert ks_2samp(*(field.ravel() for field in fields)).pvalue > 1e-4
        assert fields[0].dtype == np.float32
