"""Replays of the reference package: its stored output, and its output on other images."""
import numpy as np
import pytest
from reference import differences, photograph

from mmrobust.corruptions import NAMES, corrupt

# largest mean absolute difference in grey levels; a single value differs by 1 at most.
# The types that are missing are exact.
CLOSE = {
    'defocus_blur': .0005, 'glass_blur': .002, 'motion_blur': .001, 'zoom_blur': .001,
    'gaussian_blur': .0005, 'fog': .0005, 'elastic_transform': .0005, 'spatter': .0005,
    'frost': .0001, 'snow': .0001,
}


@pytest.mark.parametrize('name', NAMES)
def test_stored_output(name, parity):
    images, stored = parity('corruptions/inputs'), parity(f'corruptions/fx_{name}')
    assert len(stored.files) == 12
    for key in stored.files:
        image, severity = key.split('__s')
        replayed = corrupt(images[image], name, int(severity), rng=np.random.RandomState(0))
        difference = np.abs(replayed.astype(int) - stored[key])
        assert difference.mean() <= CLOSE.get(name, 0), key
        assert difference.max() <= 1


@pytest.mark.parametrize('severity', [2, 4])
@pytest.mark.parametrize('name', NAMES)
def test_other_images(name, severity):
    for seed, (height, width) in enumerate([(61, 87), (96, 48), (32, 32)]):
        difference = differences(photograph(height, width, seed), name, severity, seed)
        assert difference.mean() <= CLOSE.get(name, 0)
        assert difference.max() <= 1


@pytest.mark.parametrize('name', ['defocus_blur', 'gaussian_blur', 'motion_blur',
                                  'glass_blur', 'zoom_blur', 'brightness', 'saturate', 'snow'])
@pytest.mark.parametrize('level', [0, 200, 255])
def test_areas_of_one_colour(name, level):
    """Here the rounding errors of the reference decide."""
    for severity in (1, 3, 5):
        assert not differences(np.full((40, 56, 3), level, np.uint8), name, severity).any()


@pytest.mark.parametrize('severity', [3, 4, 5])
def test_defocused_drawing(severity):
    """Areas of one colour beside others: the Fourier transform spreads errors over all of them."""
    levels = np.random.default_rng(5).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    image = levels.repeat(32, axis=0).repeat(40, axis=1)
    assert differences(image, 'defocus_blur', severity).mean() <= CLOSE['defocus_blur']


def test_wide_image():
    image = photograph(80, 700)
    for name in ('gaussian_blur', 'motion_blur', 'fog', 'frost', 'saturate'):
        assert differences(image, name, 5).mean() <= CLOSE.get(name, 0)


@pytest.mark.parametrize('name', ['gaussian_blur', 'motion_blur', 'glass_blur'])
@pytest.mark.parametrize('level', [0, 255])
def test_overexposed_and_dark_areas(name, level):
    """Next to them the smallest weights of a filter decide."""
    image = photograph(64, 96)
    image[:30, :70] = level
    for severity in range(1, 6):
        assert differences(image, name, severity).mean() <= 3 * CLOSE[name]
