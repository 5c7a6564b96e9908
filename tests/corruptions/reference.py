"""The installed reference package as oracle, with its random streams fixed."""
import contextlib
import io
import math

import cv2
import numpy as np
import pytest

from mmrobust.corruptions import corrupt

imagecorruptions = pytest.importorskip('imagecorruptions')
original = pytest.importorskip('imagecorruptions.corruptions')


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth structure at several scales, saturated in places."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 3), np.float32)
    for side in (3, 9, 27):
        coarse = rng.standard_normal((side, side, 3), dtype=np.float32)
        image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) / side ** .3
    return np.clip(110 + 75 * image, 0, 255).astype(np.uint8)


def reference(image: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """Calls the reference so that it draws everything from RandomState(seed).

    Its newer versions draw impulse noise and the displacements of glass blur from other streams,
    and choose among six textures of frost instead of five. The weights of motion blur decide
    whether areas of one colour stay, and NumPy 1's exponential misses them by a last bit.
    """
    np.random.seed(seed)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        if name == 'impulse_noise':
            # what NumPy 2 makes of a RandomState itself
            stream = np.random.Generator(np.random.RandomState(seed)._bit_generator)
            return np.uint8(original.impulse_noise(image, severity, seed=stream))
        if name == 'motion_blur':
            patch.setattr(original, 'gauss_function', lambda x, mean, sigma: np.array(
                [math.exp(-(v - mean) ** 2 / (2 * sigma ** 2)) for v in x.tolist()])
                / (np.sqrt(2 * np.pi) * sigma))
        if name == 'glass_blur':
            shuffle = original._shuffle_pixels_njit_glass_blur
            patch.setattr(original, shuffle.__name__, shuffle.py_func)
            return np.uint8(original.glass_blur(image, severity, seed=seed))
        if name == 'frost':
            randint = np.random.randint
            patch.setattr(np.random, 'randint',
                          lambda *bounds: randint(5 if bounds == (6,) else bounds[0], *bounds[1:]))
        return imagecorruptions.corrupt(image, severity, name)


def differences(image: np.ndarray, name: str, severity: int, seed: int = 0) -> np.ndarray:
    replayed = corrupt(image, name, severity, rng=np.random.RandomState(seed))
    return np.abs(replayed.astype(int) - reference(image, name, severity, seed))
