import io

import numpy as np
import pytest
from PIL import Image
from reference import photograph

from mmrobust.corruptions import corrupt


def test_jpeg_is_what_pillow_writes():
    image = photograph(53, 71)
    file = io.BytesIO()
    Image.fromarray(image).save(file, 'JPEG', quality=15)
    np.testing.assert_array_equal(corrupt(image, 'jpeg_compression', 3), Image.open(file))


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
