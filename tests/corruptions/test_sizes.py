"""Images of any shape, in memory and time in proportion to them."""
import tracemalloc

import numpy as np
import pytest

from mmrobust.corruptions import NAMES, check_size, corrupt


@pytest.mark.parametrize(('family', 'shape'), [('imagenet', (33000, 32, 3)),
                                               ('cifar', (32, 33000, 3))])
@pytest.mark.parametrize('name', NAMES)
def test_long_images(name, family, shape):
    """A square of that side would have 1 GB; OpenCV moves pixels of up to 32767 only."""
    corrupt(np.zeros((64, 64, 3), np.uint8), name, 3, seed=0, family=family)  # compiles
    image = np.full(shape, 90, np.uint8)
    image[::2, :, 1] = 120
    tracemalloc.start()
    try:
        corrupted = corrupt(image, name, 3, seed=1, family=family)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert corrupted.shape == shape and (corrupted != image).any()
    assert peak < 300e6


@pytest.mark.parametrize('shape', [(1, 1), (1, 50), (2, 2), (31, 31), (28, 28, 3), (0, 40, 3)])
def test_small_images_are_refused(shape):
    for name in NAMES:
        with pytest.raises(ValueError, match=f'{shape[1]} x {shape[0]} pixels is too small for'):
            corrupt(np.zeros(shape, np.uint8), name, 1)
        with pytest.raises(ValueError, match='Enlarge the images first'):
            check_size(*shape[:2], name, 1)


@pytest.mark.parametrize('name', NAMES)
def test_the_smallest_image(name):
    image = np.arange(32 * 32, dtype=np.uint8).reshape(32, 32)
    for family in ('imagenet', 'cifar'):
        for severity in (1, 5):
            assert corrupt(image, name, severity, seed=0, family=family).shape == (32, 32)


def test_jpeg_is_no_decompression_bomb(monkeypatch):
    from PIL import Image
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    for name in ('jpeg_compression', 'pixelate'):
        assert corrupt(np.zeros((40, 40), np.uint8), name, 1).shape == (40, 40)
