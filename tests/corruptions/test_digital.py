import io

import numpy as np
import pytest
from PIL import Image
from reference import photograph

from mmrobust.corruptions import corrupt, recompress


def test_jpeg_is_what_pillow_writes():
    image = photograph(53, 71)
    file = io.BytesIO()
    Image.fromarray(image).save(file, 'JPEG', quality=15)
    np.testing.assert_array_equal(corrupt(image, 'jpeg_compression', 3), Image.open(file))


@pytest.mark.parametrize('shape', [(1, 1, 3), (9, 31), (20, 17, 1)])
def test_recompress(shape):
    image = photograph(*shape[:2])[..., :3 if shape[2:] == (3,) else 1].reshape(shape)
    again = recompress(image, 85)
    assert again.shape == shape and again.dtype == np.uint8 and again.flags.writeable
    assert np.abs(again.astype(int) - image).mean() < 8


@pytest.mark.parametrize(('shape', 'quality', 'message'), [
    ((8, 8, 3), 0, 'quality is 0: choose'), ((8, 8, 3), 101, 'quality is 101'),
    ((8, 8, 3), 85., r'quality is 85\.0'), ((8, 8, 3), True, 'quality is True'),
    ((8, 65501), 85, 'the sides of a JPEG'), ((0, 8), 85, 'the sides of a JPEG')])
def test_recompress_refuses(shape, quality, message):
    with pytest.raises(ValueError, match=message):
        recompress(np.zeros(shape, np.uint8), quality)


def test_pixelate_by_hand():
    image = np.zeros((32, 32, 3), np.uint8)
    image[:2, :2] = [[[9] * 3, [10] * 3], [[20] * 3, [21] * 3]]
    pixelated = corrupt(image, 'pixelate', 2)  # rows first: 10 and 21, then 16
    assert (pixelated[:2, :2] == 16).all() and not pixelated[2:].any()


@pytest.mark.parametrize('seed', [0, 1])
def test_cifar_elastic_moves_the_whole_image(seed):
    image = np.zeros((32, 32, 3), np.uint8)
    image[12:20, 12:20] = 255
    moved = corrupt(image, 'elastic_transform', 1, seed=seed, family='cifar')
    assert .5 < moved.mean() / image.mean() < 2
    assert 0 < np.abs(moved.astype(int) - image).mean() < 20
