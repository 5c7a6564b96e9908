"""Linear filters that several corruptions share.

They work in float32 on the 0..255 scale. The reference works in float64 on 0..1 and truncates, so
that in areas of one colour its rounding errors decide between a level and the one below; near such
areas the smallest weight of the filter does. ``Scale`` gets both right.

As fractions are dropped afterwards, the last bit counts: sums have an order (``kernels``), and
weights come from functions that are rounded correctly (``exp``).
"""

import decimal
import math
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

import cv2
import numpy as np

from mmrobust.corruptions.kernels import sum_taps
from mmrobust.corruptions.lookup import lookup

_DIGITS = decimal.Context(prec=30)
_NEAR = 5  # levels
_ROWS = 128  # filtered together: few enough for the cache, many more than their surroundings


class Scale:
    """The 256 levels as numbers to filter, and back.

    float32 is finest near 0, so an image with more white than black is counted from white. And
    every level is moved a little, to the side on which the reference lands in areas of that level.

    Args:
        flat (numpy.ndarray): What the reference makes of areas of the 256 levels, before it
            truncates.
        white (bool): Whether to count from white.
    """

    def __init__(self, flat: np.ndarray, white: bool = False):
        self.white = white
        levels = np.arange(255, -1, -1.) if white else np.arange(256.)
        nudge = 8e-7 * levels + 1e-13  # more than float32 filters err, less than anyone sees
        stays = np.floor(flat) >= np.rint(flat)
        self.levels = (levels + np.where(stays != white, nudge, -nudge)).astype(np.float32)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return lookup(self.levels, image)

    def truncate(self, x: np.ndarray) -> np.ndarray:
        """Returns the levels below filtered numbers, as uint8; the numbers may be lost."""
        if self.white:
            return cv2.bitwise_not(np.ceil(x, out=x).astype(np.uint8))
        return truncate(x)


def is_whiter(image: np.ndarray) -> bool:
    """Whether more values are near white than near black."""
    plane = image.reshape(len(image), -1)
    white, grey = (cv2.countNonZero(cv2.threshold(plane, level, 1, cv2.THRESH_BINARY)[1])
                   for level in (254 - _NEAR, _NEAR))
    return white > plane.size - grey


def truncate(x: np.ndarray) -> np.ndarray:
    """Drops the fractions of values in 0..255."""
    return x.astype(np.uint8)


def strips(image: np.ndarray, pixels: int) -> Iterator[slice]:
    """Yields blocks of rows, whose intermediate results are to stay in the cache."""
    rows = max(1, pixels // image.shape[1])
    for top in range(0, len(image), rows):
        yield slice(top, min(top + rows, len(image)))


def exp(exponents: Iterable[float]) -> np.ndarray:
    """Returns e to the power of each, rounded correctly: libraries differ in the last bit."""
    return np.array([float(_DIGITS.exp(decimal.Decimal(float(x)))) for x in exponents])


def gaussian(x: np.ndarray, sigma: float | tuple[float, float],
             border: int = cv2.BORDER_REPLICATE, cut: float = 4) -> np.ndarray:
    """Filters the first two axes with a Gaussian, cut off at ``cut`` deviations.

    Args:
        x (numpy.ndarray): (H, W) or (H, W, C), float32 or float64.
        sigma (float | tuple[float, float]): Deviation in pixels, or one for each axis.
    """
    vertical, horizontal = sigma if isinstance(sigma, tuple) else (sigma, sigma)
    down, across = gaussian_kernel(vertical, cut), gaussian_kernel(horizontal, cut)
    ends = [len(weights) // 2 for weights in (down, down, across, across)]
    return separable(cv2.copyMakeBorder(x, *ends, border), down, across)


def separable(x: np.ndarray, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Filters the rows, then the columns, where the weights lie inside the image."""
    steps, none = np.arange(len(across)), np.zeros(len(across), int)
    x = taps(x, across, none, steps)
    steps, none = np.arange(len(down)), np.zeros(len(down), int)
    return taps(x, down, steps, none)


@lru_cache(maxsize=32)
def gaussian_kernel(sigma: float, cut: float = 4) -> np.ndarray:
    """Returns the weights of a Gaussian filter in one direction, float64."""
    radius = int(cut * sigma + .5)
    factor = -.5 / max(sigma, 1e-9) ** 2
    half = exp(factor * x ** 2 for x in range(radius, -1, -1))
    weights = np.append(half, half[-2::-1])
    return weights / weights.sum()


@lru_cache(maxsize=64)
def gaussian_scale(sigma: float, white: bool) -> Scale:
    """Returns the scale on which to filter with a Gaussian."""
    weights = gaussian_kernel(sigma)
    radius = len(weights) // 2
    flat = np.arange(256) / 255.
    for _ in range(2):  # in the order of scipy.ndimage
        total = flat * weights[radius]
        for weight in weights[:radius]:
            total += (flat + flat) * weight
        flat = total
    return Scale(flat * 255, white)


def taps(x: np.ndarray, weights: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Sums shifted copies of an image, where all of them lie inside it.

    Args:
        x (numpy.ndarray): (H, W) or (H, W, C), float32 or float64.
        weights (numpy.ndarray): (N,), of the copies, in the order in which they are added.
        rows, columns (numpy.ndarray): (N,), where each begins: integers from 0.
    """
    plane = np.ascontiguousarray(x).reshape(len(x), -1)
    channels = plane.shape[1] // x.shape[1]
    count = len(weights)
    # filled up with copies of no weight
    offsets, shares = np.zeros(-(-count // 4) * 4, int), np.zeros(-(-count // 4) * 4, x.dtype)
    offsets[:count], shares[:count] = rows * plane.shape[1] + columns * channels, weights
    height, width = len(x) - rows.max(), x.shape[1] - columns.max()
    total = np.empty((height, width * channels), x.dtype)
    sum_taps(plane, offsets, shares, total)
    return total.reshape(height, width, *x.shape[2:])


def motion_kernel(radius: int, sigma: float, angle: float, shape: tuple[int, ...]
                  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the weights, row and column offsets of the taps of a motion blur.

    Args:
        radius (int): The trail has 2 radius + 1 taps.
        sigma (float): Their weights fall like a Gaussian of this deviation.
        angle (float): Direction in degrees.
        shape (tuple[int, ...]): Of the image: the trail stops where it would leave it.
    """
    steps = np.arange(2 * radius + 1)
    weights = _trail(radius, sigma)
    rows = np.ceil(steps * math.sin(math.radians(angle)) - .5).astype(int)
    columns = np.ceil(steps * math.cos(math.radians(angle)) - .5).astype(int)
    inside = (abs(rows) < shape[0]) & (abs(columns) < shape[1])
    return weights[inside], rows[inside], columns[inside]


@lru_cache(maxsize=32)
def _trail(radius: int, sigma: float) -> np.ndarray:
    weights = exp(-np.arange(2 * radius + 1) ** 2 / (2 * sigma ** 2)) / (
        math.sqrt(2 * math.pi) * sigma)
    return weights / weights.sum()


def motion(x: np.ndarray, weights: np.ndarray, rows: np.ndarray, columns: np.ndarray,
           scale: Scale | None = None) -> np.ndarray:
    """Sums shifted copies of an image, with its edges repeated outwards.

    Args:
        x (numpy.ndarray): (H, W) or (H, W, C), float32; or uint8 with a ``scale``.
        weights, rows, columns (numpy.ndarray): From ``motion_kernel``.
        scale (Scale, optional): On which to filter, and to truncate to uint8.
    """
    ends = [int(end) for offsets in (rows, columns) for end in (-offsets.min(), offsets.max())]
    x = cv2.copyMakeBorder(x, *ends, cv2.BORDER_REPLICATE)
    rows, columns = rows - rows.min(), columns - columns.min()
    if scale is None:
        return taps(x, weights, rows, columns)
    return on_scale(x, scale, rows.max(), lambda x: taps(x, weights, rows, columns))


def on_scale(image: np.ndarray, scale: Scale, lost: int, function: Callable) -> np.ndarray:
    """Filters blocks of rows of an image on a scale, and truncates to uint8.

    Args:
        image (numpy.ndarray): (H, W) or (H, W, C), uint8.
        scale (Scale): On which to filter.
        lost (int): By how many rows the result of the filter is less high.
        function (Callable): The filter.
    """
    kept = image[:len(image) - lost]
    return np.concatenate([
        scale.truncate(function(scale(image[rows.start:rows.stop + lost])))
        for rows in strips(kept, _ROWS * image.shape[1])])


def centre(shape: tuple[int, ...], factor: float) -> tuple[slice, slice]:
    """Returns where the centre lies that is 1 / factor of each side, rounded up."""
    crops = [math.ceil(side / factor) for side in shape[:2]]
    starts = [(side - crop) // 2 for side, crop in zip(shape, crops, strict=False)]
    return tuple(slice(start, start + crop) for start, crop in zip(starts, crops, strict=True))


def enlarge(x: np.ndarray, factor: float) -> np.ndarray:
    """Enlarges a layer linearly, its corners staying corners.

    As in the reference, a last row or column whose coordinate is rounded beyond the edge is black.

    Args:
        x (numpy.ndarray): (H, W), float32 or float64.
        factor (float): The sides grow by it and are rounded.
    """
    for axis in (1, 0):
        first, share, black = positions(x.shape[axis], factor)
        share = share.astype(x.dtype)[(None, slice(None)) if axis else (slice(None), None)]
        start = x.take(first, axis=axis)
        rise = x.take(first + 1, axis=axis)
        rise -= start
        rise *= share
        start += rise
        if black:
            np.moveaxis(start, axis, 0)[-1] = 0
        x = start
    return x


def positions(side: int, factor: float) -> tuple[np.ndarray, np.ndarray, bool]:
    """Returns what an enlargement by a factor interpolates between along one axis.

    Returns:
        tuple: For each place the first of two neighbours, and the share of the second, float64;
        whether the last place is rounded beyond the edge.
    """
    size = round(side * factor)
    step = (side - 1) / (size - 1)
    position = np.arange(size) * step
    first = np.minimum(position.astype(np.intp), side - 2)
    return first, position - first, position[-1] > side - 1
