import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from reference import photograph

from mmrobust.corruptions import NAMES, check_size, corrupt
from mmrobust.corruptions.severities import SEVERITIES

IMAGE = photograph(40, 52)
IMAGE.setflags(write=False)


@pytest.mark.parametrize('family', SEVERITIES)
@pytest.mark.parametrize('name', NAMES)
def test_every_cell_changes_the_image_only(name, family):
    image = IMAGE.copy()
    for severity in range(1, 6):
        corrupted = corrupt(image, name, severity, seed=1, family=family)
        assert corrupted.dtype == np.uint8 and corrupted.shape == image.shape
        assert corrupted.flags.c_contiguous and not np.shares_memory(corrupted, image)
        assert (corrupted != image).any()
        np.testing.assert_array_equal(image, IMAGE)


@pytest.mark.parametrize('name', NAMES)
def test_the_seed_decides(name):
    first, again, other = (corrupt(IMAGE, name, 3, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, corrupt(IMAGE, name, 3, rng=np.random.default_rng(1)))
    random = name not in ('defocus_blur', 'zoom_blur', 'gaussian_blur', 'brightness', 'contrast',
                          'saturate', 'pixelate', 'jpeg_compression')
    assert (first != other).any() == random


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('shape', [(32, 200), (97, 33)])
def test_any_size(name, shape):
    view = photograph(*shape)[:, ::-1]  # not contiguous
    np.testing.assert_array_equal(corrupt(view, name, 5, seed=0),
                                  corrupt(view.copy(), name, 5, seed=0))


@pytest.mark.parametrize('name', NAMES)
def test_grey(name):
    grey = IMAGE[..., 0]
    corrupted = corrupt(grey, name, 2, seed=0)
    assert corrupted.shape == grey.shape and corrupted.dtype == np.uint8
    np.testing.assert_array_equal(corrupt(grey[..., None], name, 2, seed=0)[..., 0], corrupted)
    coloured = corrupt(np.repeat(grey[..., None], 3, 2), name, 2, seed=0)
    if name.endswith('noise'):
        np.testing.assert_array_equal(corrupted, coloured[..., 0])
    else:
        assert (coloured.min(axis=2) <= corrupted).all()
        assert (corrupted <= coloured.max(axis=2)).all()


def _run(name: str) -> bytes:
    return corrupt(IMAGE, name, 4, seed=7).tobytes()


def test_threads_and_processes_agree():
    here = list(map(_run, NAMES))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(_run, NAMES)) == here
    spawn = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        assert list(pool.map(_run, NAMES)) == here


def test_without_seed_every_call_differs():
    assert (corrupt(IMAGE, 'fog', 3) != corrupt(IMAGE, 'fog', 3)).any()


@pytest.mark.parametrize(('arguments', 'error', 'message'), [
    ((IMAGE, 'gausian_noise', 1), ValueError, "'gausian_noise': choose gaussian_noise"),
    ((IMAGE, 'rust', 1), ValueError, "'rust': choose frost"),
    ((IMAGE, 'qqq', 1), ValueError, "'qqq': choose gaussian_noise, .*saturate"),
    ((IMAGE, 'snow', 0), ValueError, 'severity is 0: choose an integer from 1 to 5'),
    ((IMAGE, 'snow', 2.5), ValueError, 'severity is 2.5'),
    ((IMAGE / 255, 'snow', 1), TypeError, 'float64: pass a uint8'),
    (([1, 2], 'snow', 1), TypeError, 'list: pass a uint8'),
    ((IMAGE[:31], 'snow', 1), ValueError, '52 x 31 pixels is too small for snow: .* at least 32'),
    ((IMAGE[:0], 'snow', 1), ValueError, '52 x 0 pixels is too small'),
    ((IMAGE, ['snow'], 1), ValueError, r"\['snow'\]: choose"),
    ((IMAGE, 'snow', True), ValueError, 'severity is True'),
    ((IMAGE, 'snow', float('nan')), ValueError, 'severity is nan'),
    ((IMAGE, 'snow', '3'), ValueError, "severity is '3'"),
    ((IMAGE.astype(np.uint16), 'snow', 1), TypeError, 'uint16: pass a uint8'),
    ((IMAGE > 9, 'snow', 1), TypeError, 'bool: pass a uint8'),
    ((Image.fromarray(IMAGE), 'snow', 1), TypeError, 'Image: pass a uint8'),
    ((IMAGE.repeat(2, 2)[..., :4], 'snow', 1), ValueError, r'\(40, 52, 4\): pass'),
    ((np.zeros((32, 65501), np.uint8), 'jpeg_compression', 1), ValueError,
     '65501 x 32 pixels is too long for jpeg_compression: .* 65500'),
    ((IMAGE[..., :2], 'snow', 1), ValueError, r'\(40, 52, 2\): pass'),
])
def test_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        corrupt(*arguments)


def test_errors_of_options():
    with pytest.raises(ValueError, match="'tiny': choose 'imagenet' or 'cifar'"):
        corrupt(IMAGE, 'snow', 1, family='tiny')
    with pytest.raises(ValueError, match='Both seed and rng'):
        corrupt(IMAGE, 'snow', 1, seed=1, rng=np.random.default_rng())
    with pytest.raises(TypeError, match='rng is a int'):
        corrupt(IMAGE, 'snow', 1, rng=3)
    for seed in (-1, 1.5, '1', True, [1, 2]):
        with pytest.raises(ValueError, match='The seed is .*: pass a non-negative integer'):
            corrupt(IMAGE, 'snow', 1, seed=seed)
    assert corrupt(IMAGE, 'snow', np.int64(1), seed=2**70).shape == IMAGE.shape


def test_sizes_are_told_without_an_image():
    for name in NAMES:
        check_size(32, 20000, name, 1)
        with pytest.raises(ValueError, match=f'28 x 28 pixels is too small for {name}'):
            check_size(28, 28, name, 1)
    with pytest.raises(ValueError, match='too long for jpeg_compression'):
        check_size(65501, 40, 'jpeg_compression', 1)
    with pytest.raises(ValueError, match='severity is 9'):
        check_size(64, 64, 'fog', 9)
