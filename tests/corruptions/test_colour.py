import numpy as np
import pytest
from reference import differences

from mmrobust.corruptions import corrupt


def every_kind_of_colour() -> np.ndarray:
    """Random colours, greys, two equal channels, and small differences."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (160, 160, 3), dtype=np.uint8)
    colours[:20] = colours[:20, :, :1]
    for row, (a, b) in enumerate([(0, 1), (1, 2), (0, 2)], start=1):
        colours[20 * row:20 * row + 20, :, a] = colours[20 * row:20 * row + 20, :, b]
    near = colours[80:120, :, :1].astype(int) + rng.integers(-3, 4, (40, 160, 3))
    colours[80:120] = near.clip(0, 255)
    return colours


@pytest.mark.parametrize('severity', range(1, 6))
@pytest.mark.parametrize('name', ['brightness', 'saturate', 'contrast'])
def test_exact_for_every_kind_of_colour(name, severity):
    assert not differences(every_kind_of_colour(), name, severity).any()


def test_saturated_grey_turns_red():
    grey = np.full((32, 32, 3), 100, np.uint8)
    np.testing.assert_array_equal(corrupt(grey, 'saturate', 5)[0, 0], [100, 80, 80])


def test_contrast_by_hand():
    image = np.zeros((40, 40, 3), np.uint8)
    image[:20] = 200
    assert set(np.unique(corrupt(image, 'contrast', 1))) == {60, 140}
