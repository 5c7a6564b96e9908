import numpy as np
import pytest
from reference import photograph
from scipy.ndimage import correlate, gaussian_filter, zoom

from mmrobust.corruptions import blur, corrupt, filters
from mmrobust.corruptions.kernels import add_enlarged
from mmrobust.corruptions.streams import FastStream, ReplayStream


def scatter_one_by_one(pixels, choice, delta):
    """Copies in the order of the definition."""
    pixels = pixels.copy()
    height, width = pixels.shape
    for h in range(height - delta, delta, -1):
        for w in range(width - delta, delta, -1):
            dy, dx = divmod(int(choice[h - delta - 1, w - delta - 1]), 2 * delta)
            pixels[h, w] = pixels[h + dy - delta, w + dx - delta]
    return pixels


@pytest.mark.parametrize('delta', [1, 2, 3, 4])
def test_scatter_follows_the_order(delta):
    pixels = np.arange(37 * 41, dtype=np.uint32).reshape(37, 41)
    for seed in range(3):
        choice = blur._choices(FastStream(seed), delta, (37 - 2 * delta, 41 - 2 * delta))
        expected = scatter_one_by_one(pixels, choice, delta)
        scattered = pixels.copy()
        blur._scatter(scattered, FastStream(seed), delta)
        np.testing.assert_array_equal(scattered, expected)
        assert (scattered != pixels).mean() > .5


def test_displacements_are_drawn_backwards_dx_first():
    rng = np.random.RandomState(3)
    choice = blur._choices(ReplayStream(np.random.RandomState(3)), 2, (5, 6))
    for h in range(4, -1, -1):
        for w in range(5, -1, -1):
            dx, dy = rng.randint(-2, 2, size=(2,))
            assert choice[h, w] == (dy + 2) * 4 + dx + 2


@pytest.mark.parametrize('delta', [1, 3, 4])
def test_displacements_are_uniform(delta):
    count = (2 * delta) ** 2
    choice = blur._choices(FastStream(0), delta, (500, 600))
    frequencies = np.bincount(choice.ravel(), minlength=count) * count / choice.size
    assert len(frequencies) == count and np.abs(frequencies - 1).max() < .08


@pytest.mark.parametrize('sigma', [.4, 1, 6, (3., 12.), (40., 2.)])
@pytest.mark.parametrize('shape', [(70, 90, 3), (64, 1300), (40, 900, 3)])
def test_gaussian(sigma, shape):
    x = np.random.default_rng(0).random(shape, dtype=np.float32)
    sigmas = (sigma if isinstance(sigma, tuple) else (sigma, sigma)) + (0,) * (x.ndim - 2)
    expected = gaussian_filter(x.astype(float), sigmas, mode='nearest', truncate=4)
    np.testing.assert_allclose(filters.gaussian(x, sigma), expected, atol=1e-5)


@pytest.mark.parametrize('angle', [0, 33, -45, -90, -130])
@pytest.mark.parametrize('radius', [6, 20])
def test_motion_is_a_sum_of_shifted_copies(angle, radius):
    x = np.random.default_rng(0).random((45, 64, 3), dtype=np.float32)
    weights, rows, columns = filters.motion_kernel(radius, 8, angle, x.shape)
    padded = np.pad(x, ((50, 50), (50, 50), (0, 0)), mode='edge')
    expected = sum(weight * padded[50 + row:95 + row, 50 + column:114 + column]
                   for weight, row, column in zip(weights, rows, columns, strict=True))
    np.testing.assert_allclose(filters.motion(x, weights, rows, columns), expected, atol=1e-5)


def test_motion_stops_at_the_border():
    weights, rows, _ = filters.motion_kernel(20, 15, -90, (33, 64))
    assert len(weights) == 33 and rows.min() == -32
    assert weights.sum() < 1


@pytest.mark.parametrize('shape', [(40, 33), (300, 700)])
def test_defocus_is_a_correlation(shape):
    image = photograph(*shape)
    for radius, alias in ((3, .1), (8, .5), (10, .5)):
        kernel, _ = blur._disk(radius, alias)
        reach = len(kernel) // 2
        padded = np.pad(image.astype(float), ((reach, reach), (reach, reach), (0, 0)), 'reflect')
        expected = correlate(padded, kernel[..., None].astype(float))[reach:-reach, reach:-reach]
        blurred = blur.defocus_blur(image, None, radius, alias)
        difference = np.abs(blurred - np.floor(expected.clip(0, 255)))
        assert difference.mean() < 1e-3 and difference.max() <= 1


@pytest.mark.parametrize('side', [5, 2000])
def test_separable_in_tiles(side):
    """More columns than are summed together, and a number of weights that 4 does not divide."""
    x = np.random.default_rng(0).random((12, side), dtype=np.float32)
    down, across = np.array([.2, .5, .3]), np.array([.1, .2, .4, .2, .1])
    expected = correlate(x.astype(float), down[:, None] * across)[1:-1, 2:-2]
    np.testing.assert_allclose(filters.separable(x, down, across), expected, atol=1e-6)


def test_exponentials_are_rounded_correctly():
    assert filters.exp([0, -1, 1]).tolist() == [1, .36787944117144233, 2.718281828459045]
    assert filters.exp([-1e9])[0] == 0


@pytest.mark.parametrize('factor', [1.01, 1.19, 2.5, 3, 4.5])
@pytest.mark.parametrize('shape', [(96, 133), (224, 224)])
def test_enlarge(factor, shape):
    x = np.random.default_rng(0).random(shape)
    crop = x[filters.centre(shape, factor)]
    expected = zoom(crop, (factor, factor), order=1)
    np.testing.assert_allclose(filters.enlarge(crop, factor), expected, atol=1e-14)


@pytest.mark.parametrize('factor', [1.01, 1.3])
def test_add_enlarged(factor):
    x = np.random.default_rng(0).random((64, 80, 3), dtype=np.float32)
    crop = np.ascontiguousarray(x[filters.centre(x.shape, factor)])
    total = np.ones_like(x)
    places = [place for axis in (0, 1) for place in blur._places(crop, x, axis, factor)]
    add_enlarged(crop, *places, total)
    expected = np.zeros_like(x)
    layer = zoom(crop.astype(float), (factor, factor, 1), order=1)[:64, :80]
    expected[:len(layer), :layer.shape[1]] = layer
    np.testing.assert_allclose(total, 1 + expected, atol=1e-5)


def test_blur_keeps_the_mean():
    image = photograph(80, 100)
    for name in ('gaussian_blur', 'defocus_blur', 'motion_blur', 'glass_blur'):
        assert abs(corrupt(image, name, 1, seed=0).mean() - image.mean()) < 2
