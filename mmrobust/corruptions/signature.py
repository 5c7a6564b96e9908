"""What the corruptions do on this machine, in a few characters.

The pixels of a corruption follow from this package, from the libraries under it and from the
textures of frost. A digest of a small corrupted picture tells in milliseconds whether all of them
are those that made other results.
"""

import hashlib
from functools import cache

import numpy as np

from mmrobust.corruptions.engine import corrupt

_HEIGHT, _WIDTH = 64, 80


@cache
def signature(name: str, severity: int, family: str = 'imagenet') -> str:
    """Returns a digest of one corruption of a fixed small image.

    Args:
        name (str): One of ``mmrobust.corruptions.NAMES``.
        severity (int): 1 to 5.
        family (str): The table of severities, 'imagenet' or 'cifar'.

    Returns:
        str: 16 hexadecimal digits. Where two runs have the same, this corruption made the same
        pixels of the same images and seeds.

    Raises:
        ValueError: Unknown name, severity or family.
    """
    return digest(corrupt(picture(_HEIGHT, _WIDTH), name, severity, seed=0, family=family))


def digest(image: np.ndarray) -> str:
    """Returns 16 hexadecimal digits that stand for the pixels and the shape of an image."""
    content = f'{image.dtype.str}{image.shape}'.encode() + image.tobytes()
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def picture(height: int, width: int) -> np.ndarray:
    """Draws what is sensitive to corruptions, in integers, so that it is the same everywhere.

    Returns:
        numpy.ndarray: (H, W, 3), uint8: waves, texture, areas of one colour, black and white.
    """
    y, x = np.arange(height)[:, None, None], np.arange(width)[:, None]
    channel = np.arange(3)
    wave = abs((5 * x + 3 * y + 40 * channel) % 256 - 128) + abs((7 * y - 2 * x) % 128 - 64)
    state = ((y * width + x) * 3 + channel).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    texture = ((state ^ state >> np.uint64(29)) * np.uint64(0xBF58476D1CE4E5B9) >> np.uint64(58))
    image = (wave + texture.astype(np.int64)).clip(0, 255)
    image[:height // 4, :width // 3] = 255
    image[-(height // 4):, -(width // 3):] = 0
    image[height // 3:height // 2, width // 2:] = 90, 160, 40
    return image.astype(np.uint8)
