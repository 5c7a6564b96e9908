"""Linear filters that several corruptions share.

They work in float32 on the 0..255 scale. The reference works in float64 on 0..1 and truncates, so
that in areas of one colour its rounding errors decide between a level and the one below.
``to_float`` nudges every level to the side on which the reference lands.
"""

import math
from functools import lru_cache

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d

from mmrobust.corruptions.lookup import lookup

_FOURIER = 130  # taps from which OpenCV filters float32 by Fourier transform
_NUDGE = 5e-4  # more than float32 filters err, less than anyone sees


def to_float(image: np.ndarray, flat: np.ndarray | None = None) -> np.ndarray:
    """Converts uint8 to float32.

    Args:
        image (numpy.ndarray): uint8 values.
        flat (numpy.ndarray, optional): What the reference makes of an area of each of the 256
            levels, before it truncates.
    """
    levels = np.arange(256.)
    if flat is not None:
        levels += np.where(np.floor(flat) < np.round(flat), -_NUDGE, _NUDGE)
    return lookup(levels.astype(np.float32), image)


def truncate(x: np.ndarray) -> np.ndarray:
    """Clips float values to 0..255 and drops their fractions."""
    plane = x.reshape(len(x), -1)
    return cv2.min(cv2.max(plane, 0), 255).astype(np.uint8).reshape(x.shape)


def gaussian(x: np.ndarray, sigma: float, border: int = cv2.BORDER_REPLICATE,
             cut: float = 4) -> np.ndarray:
    """Filters the first two axes with a Gaussian, cut off at ``cut`` deviations.

    Args:
        x (numpy.ndarray): (H, W) or (H, W, C), float32.
        sigma (float | tuple[float, float]): Deviation in pixels, or one for each axis.
    """
    sigmas = np.broadcast_to(sigma, 2)
    vertical, horizontal = (_gaussian_kernel(float(s), cut) for s in sigmas)
    return cv2.sepFilter2D(x, -1, horizontal, vertical, borderType=border)


@lru_cache(maxsize=32)
def _gaussian_kernel(sigma: float, cut: float) -> np.ndarray:
    radius = int(cut * sigma + .5)
    exponent = np.arange(-radius, radius + 1) ** 2 / (2 * max(sigma, 1e-9) ** 2)
    weights = np.exp(-exponent)
    return (weights / weights.sum()).astype(np.float32)


@lru_cache(maxsize=32)
def gaussian_ties(sigma: float) -> np.ndarray:
    """Returns what the reference's Gaussian makes of areas of one level."""
    radius = int(4 * sigma + .5)
    x = np.repeat(np.arange(256)[:, None] / 255., 2 * radius + 1, axis=1)
    once = gaussian_filter1d(x, sigma, axis=1, mode='nearest')[:, radius]
    x = np.repeat(once[:, None], 2 * radius + 1, axis=1)
    return gaussian_filter1d(x, sigma, axis=1, mode='nearest')[:, radius] * 255


def motion_kernel(radius: int, sigma: float, angle: float,
                  shape: tuple[int, ...]) -> list[tuple[float, int, int]]:
    """Returns the weight, row and column offset of every tap of a motion blur.

    Args:
        radius (int): The trail has 2 radius + 1 taps.
        sigma (float): Their weights fall like a Gaussian of this deviation.
        angle (float): Direction in degrees.
        shape (tuple[int, ...]): Of the image: the trail stops where it would leave it.
    """
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-steps ** 2 / (2 * sigma ** 2)) / (np.sqrt(2 * np.pi) * sigma)
    weights /= weights.sum()
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    taps = []
    for step, weight in zip(steps, weights, strict=True):
        row, column = math.ceil(step * sine - .5), math.ceil(step * cosine - .5)
        if abs(row) >= shape[0] or abs(column) >= shape[1]:
            break
        taps.append((weight, row, column))
    return taps


def motion(x: np.ndarray, taps: list[tuple[float, int, int]]) -> np.ndarray:
    """Sums shifted copies of an image, with its edges repeated outwards.

    Args:
        x (numpy.ndarray): (H, W) or (H, W, C), float32.
        taps (list): From ``motion_kernel``.
    """
    rows, columns = ([tap[axis] for tap in taps] for axis in (1, 2))
    above, before = -min(rows), -min(columns)
    padded = cv2.copyMakeBorder(x, above, max(rows), before, max(columns), cv2.BORDER_REPLICATE)
    height, width = x.shape[:2]
    result = None
    for kernel, row, column in _short_trails(taps):
        top, left = above + row, before + column
        source = padded[top:top + height + len(kernel) - 1,
                        left:left + width + kernel.shape[1] - 1]
        part = cv2.filter2D(source, -1, kernel, anchor=(0, 0))[:height, :width]
        result = part if result is None else cv2.add(result, part)
    return result


def _short_trails(taps: list[tuple[float, int, int]]):
    """Yields kernels small enough that OpenCV does not turn to the slower Fourier transform."""
    while taps:
        for count in range(len(taps), 0, -1):
            rows, columns = ([tap[axis] for tap in taps[:count]] for axis in (1, 2))
            top, left = min(rows), min(columns)
            shape = max(rows) - top + 1, max(columns) - left + 1
            if shape[0] * shape[1] < _FOURIER:
                break
        kernel = np.zeros(shape, np.float32)
        for weight, row, column in taps[:count]:
            kernel[row - top, column - left] += weight
        yield kernel, top, left
        taps = taps[count:]


def centre(shape: tuple[int, ...], factor: float) -> tuple[slice, slice]:
    """Returns where the centre lies that is 1 / factor of each side, rounded up."""
    crops = [math.ceil(side / factor) for side in shape[:2]]
    starts = [(side - crop) // 2 for side, crop in zip(shape, crops, strict=False)]
    return tuple(slice(start, start + crop) for start, crop in zip(starts, crops, strict=True))


def enlarge(x: np.ndarray, factor: float) -> np.ndarray:
    """Enlarges an image linearly, its corners staying corners.

    As in the reference, a last row or column whose coordinate is rounded beyond the edge is black.

    Args:
        x (numpy.ndarray): (H, W) or (H, W, 3), float32; or (H, W), float64.
        factor (float): The sides grow by it and are rounded.
    """
    crops, sizes = x.shape[:2], [round(side * factor) for side in x.shape[:2]]
    steps = [(crop - 1) / (size - 1) for crop, size in zip(crops, sizes, strict=True)]
    if x.ndim == 2:  # exact, which matters where a threshold follows
        enlarged = _stretch(_stretch(x, sizes[0], steps[0]).T, sizes[1], steps[1]).T
    else:
        matrix = np.float64([[steps[1], 0, 0], [0, steps[0], 0]])
        enlarged = cv2.warpAffine(x, matrix, sizes[::-1], borderMode=cv2.BORDER_REPLICATE,
                                  flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    for axis, (crop, size, step) in enumerate(zip(crops, sizes, steps, strict=True)):
        if (size - 1) * step > crop - 1:
            np.moveaxis(enlarged, axis, 0)[-1] = 0
    return enlarged


def _stretch(x: np.ndarray, size: int, step: float) -> np.ndarray:
    """Interpolates the first axis linearly."""
    position = np.arange(size) * step
    first = np.minimum(position.astype(np.intp), len(x) - 2)
    share = (position - first)[:, None].astype(x.dtype)
    stretched = x[first]
    stretched += share * (x[first + 1] - stretched)
    return stretched
