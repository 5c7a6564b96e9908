"""Linear filters that several corruptions share.

They work in float32 on the 0..255 scale. The reference works in float64 on 0..1 and truncates, so
that in areas of one colour its rounding errors decide between a level and the one below; near such
areas the smallest weight of the filter does. ``Scale`` gets both right.
"""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d

from mmrobust.corruptions.lookup import lookup

_FOURIER = 130  # taps from which OpenCV filters float32 by Fourier transform
_TILE = 1200  # floats of one row; as many rows as a filter is high then fit the cache
_NEAR = 5  # levels
_SIDE = 256  # of a tile for the Fourier transform, at most; multiples of 16 are fast
FOURIER_ERROR = 8e-5  # of levels after it, at most
_ROWS = 128  # filtered together: few enough for the cache, many more than their surroundings


class Scale:
    """The 256 levels as numbers to filter, and back.

    float32 is finest near 0, so an image with more white than black is counted from white. And
    every level is moved a little, to the side on which the reference lands in areas of that level.

    Args:
        flat (numpy.ndarray): What the reference makes of areas of the 256 levels, before it
            truncates.
        white (bool): Whether to count from white.
        error (float): How far off black may be after filtering. Other levels may be further off in
            proportion to the level.
    """

    def __init__(self, flat: np.ndarray, white: bool = False, error: float = 1e-13):
        self.white = white
        levels = np.arange(255, -1, -1.) if white else np.arange(256.)
        nudge = 8e-7 * levels + error  # more than float32 filters err, less than anyone sees
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


def clip(x: np.ndarray) -> np.ndarray:
    """Limits positive values to 255 and drops their fractions; the values may be lost."""
    return truncate(cv2.threshold(x, 255, 0, cv2.THRESH_TRUNC, x)[1])


def strips(image: np.ndarray, pixels: int) -> Iterator[slice]:
    """Yields blocks of rows, whose intermediate results are to stay in the cache."""
    rows = max(1, pixels // image.shape[1])
    for top in range(0, len(image), rows):
        yield slice(top, min(top + rows, len(image)))


def gaussian(x: np.ndarray, sigma: float | tuple[float, float],
             border: int = cv2.BORDER_REPLICATE, cut: float = 4) -> np.ndarray:
    """Filters the first two axes with a Gaussian, cut off at ``cut`` deviations.

    Args:
        x (numpy.ndarray): (H, W) or (H, W, C), float; changed in place and returned.
        sigma (float | tuple[float, float]): Deviation in pixels, or one for each axis.
    """
    vertical, horizontal = sigma if isinstance(sigma, tuple) else (sigma, sigma)
    _along(x, _gaussian_kernel(horizontal, cut)[None], border)
    kernel = _gaussian_kernel(vertical, cut)[:, None]
    width = x.shape[1]
    step = _TILE * width // x[0].size
    for left in range(0, width, step):
        _along(x[:, left:left + step], kernel, border)
    return x


def _along(x: np.ndarray, kernel: np.ndarray, border: int) -> None:
    if kernel.size < _FOURIER:  # twice as fast as the separable filter
        cv2.filter2D(x, -1, kernel, x, borderType=border)
    else:
        one = np.ones(1, np.float32)
        rows, columns = (kernel, one) if kernel.shape[1] > 1 else (one, kernel)
        cv2.sepFilter2D(x, -1, rows, columns, x, borderType=border)


@lru_cache(maxsize=32)
def _gaussian_kernel(sigma: float, cut: float) -> np.ndarray:
    radius = int(cut * sigma + .5)
    exponent = np.arange(-radius, radius + 1) ** 2 / (2 * max(sigma, 1e-9) ** 2)
    weights = np.exp(-exponent)
    return (weights / weights.sum()).astype(np.float32)


@lru_cache(maxsize=64)
def gaussian_scale(sigma: float, white: bool) -> Scale:
    """Returns the scale on which to filter with a Gaussian."""
    radius = int(4 * sigma + .5)
    flat = np.arange(256) / 255.
    for _ in range(2):
        area = np.repeat(flat[:, None], 2 * radius + 1, axis=1)
        flat = gaussian_filter1d(area, sigma, axis=1, mode='nearest')[:, radius]
    return Scale(flat * 255, white)


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
    weights = np.exp(-steps ** 2 / (2 * sigma ** 2)) / (math.sqrt(2 * math.pi) * sigma)
    weights /= weights.sum()
    rows = np.ceil(steps * math.sin(math.radians(angle)) - .5).astype(int)
    columns = np.ceil(steps * math.cos(math.radians(angle)) - .5).astype(int)
    inside = (abs(rows) < shape[0]) & (abs(columns) < shape[1])
    return weights[inside], rows[inside], columns[inside]


def motion(x: np.ndarray, weights: np.ndarray, rows: np.ndarray, columns: np.ndarray,
           scale: Scale | None = None) -> np.ndarray:
    """Sums shifted copies of an image, with its edges repeated outwards.

    Args:
        x (numpy.ndarray): (H, W) or (H, W, C), float32; or uint8 with a ``scale``.
        weights, rows, columns (numpy.ndarray): From ``motion_kernel``.
        scale (Scale, optional): On which to filter, and to truncate to uint8.
    """
    trail = np.zeros((np.ptp(rows) + 1, np.ptp(columns) + 1), np.float32)
    np.add.at(trail, (rows - rows.min(), columns - columns.min()), weights.astype(np.float32))
    ends = []
    for offsets in (rows, columns):
        ends += [-offsets.min(), offsets.max()]
    x = cv2.copyMakeBorder(x, *ends, cv2.BORDER_REPLICATE)
    if scale is None:
        return _correlate(x, trail.shape, list(_pieces(trail)))
    return correlate(x, scale, trail)


def correlate(image: np.ndarray, scale: Scale, kernel: np.ndarray) -> np.ndarray:
    """Correlates where the kernel lies inside the image, tap by tap, and truncates to uint8.

    OpenCV is handed the kernel in pieces so small that it does not change to a Fourier transform.

    Args:
        image (numpy.ndarray): (H, W) or (H, W, C), uint8.
        scale (Scale): On which to filter.
        kernel (numpy.ndarray): (h, w), float32.

    Returns:
        numpy.ndarray: (H - h + 1, W - w + 1) or (H - h + 1, W - w + 1, C), uint8.
    """
    height, width = (side - taps + 1 for side, taps in zip(image.shape, kernel.shape, strict=False))
    result = np.empty((height, width, *image.shape[2:]), np.uint8)
    pieces = list(_pieces(kernel))
    for rows in strips(result, _ROWS * width):
        x = scale(image[rows.start:rows.stop + len(kernel) - 1])
        result[rows] = scale.truncate(_correlate(x, kernel.shape, pieces))
    return result


def _correlate(x: np.ndarray, shape: tuple[int, int],
               pieces: list[tuple[np.ndarray, int, int]]) -> np.ndarray:
    height, width = (side - taps + 1 for side, taps in zip(x.shape, shape, strict=False))
    result = None
    for piece, top, left in pieces:
        area = x[top:top + height + len(piece) - 1, left:left + width + piece.shape[1] - 1]
        part = cv2.filter2D(area, -1, piece, anchor=(0, 0))[:height, :width]
        result = part if result is None else cv2.add(result, part, result)
    return result


def _pieces(kernel: np.ndarray) -> Iterator[tuple[np.ndarray, int, int]]:
    """Cuts a kernel into bands of rows, and these to the columns that have taps."""
    taps = kernel != 0
    starts = taps.argmax(axis=1).tolist()
    stops = (kernel.shape[1] - taps[:, ::-1].argmax(axis=1)).tolist()
    top, left, right = 0, starts[0], stops[0]
    for row, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        wider = min(left, start), max(right, stop)
        if (row + 1 - top) * (wider[1] - wider[0]) >= _FOURIER:
            yield kernel[top:row, left:right].copy(), top, left
            top, wider = row, (start, stop)
        left, right = wider
    yield kernel[top:, left:right].copy(), top, left


def fourier(image: np.ndarray, scale: Scale, reach: int,
            spectrum_of: Callable[[tuple[int, int]], np.ndarray]) -> np.ndarray:
    """Filters where the kernel lies inside the image, tile by tile, and truncates to uint8.

    Args:
        image (numpy.ndarray): (H, W, 3), uint8.
        scale (Scale): On which to filter.
        reach (int): How far the symmetric kernel reaches to each side.
        spectrum_of (Callable): Returns the ``spectrum`` of the kernel for tiles of a shape.

    Returns:
        numpy.ndarray: (H - 2 reach, W - 2 reach, 3), uint8.
    """
    side = [min(_SIDE, 16 * cv2.getOptimalDFTSize(-(-side // 16))) for side in image.shape[:2]]
    kernel = spectrum_of(tuple(side))
    tile = np.zeros(side, np.float32)
    results = []
    for plane in cv2.split(image):
        result = np.empty_like(plane[reach:-reach, reach:-reach])
        for top in range(0, result.shape[0], side[0] - 2 * reach):
            for left in range(0, result.shape[1], side[1] - 2 * reach):
                x = scale(plane[top:top + side[0], left:left + side[1]])
                height, width = x.shape
                tile[:height, :width] = x
                cv2.dft(tile, tile)
                tile *= kernel
                cv2.idft(tile, tile)
                inside = tile[reach:height - reach, reach:width - reach]
                result[top:, left:][:inside.shape[0], :inside.shape[1]] = clip(inside)
        results.append(result)
    return cv2.merge(results)


def spectrum(kernel: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Returns what to multiply with the packed Fourier transform of a plane to filter it.

    Args:
        kernel (numpy.ndarray): (h, w), float32, equal to its mirror images; h and w are odd.
        shape (tuple[int, int]): Of the plane, even.

    Returns:
        numpy.ndarray: float32, of that shape; the inverse transform needs no scaling any more.
    """
    height, width = kernel.shape
    plane = np.zeros(shape, np.float32)
    plane[:height, :width] = kernel
    plane = np.roll(plane, (-(height // 2), -(width // 2)), axis=(0, 1))
    packed = cv2.dft(plane, flags=cv2.DFT_SCALE)
    # the spectrum is real; the packed transform has real and imaginary parts side by side, and in
    # the outer columns one above the other
    packed[:, 2:-1:2] = packed[:, 1:-1:2]
    packed[2:-1:2, [0, -1]] = packed[1:-1:2, [0, -1]]
    return packed


def centre(shape: tuple[int, ...], factor: float) -> tuple[slice, slice]:
    """Returns where the centre lies that is 1 / factor of each side, rounded up."""
    crops = [math.ceil(side / factor) for side in shape[:2]]
    starts = [(side - crop) // 2 for side, crop in zip(shape, crops, strict=False)]
    return tuple(slice(start, start + crop) for start, crop in zip(starts, crops, strict=True))


def enlarge(x: np.ndarray, factor: float) -> np.ndarray:
    """Enlarges an image linearly, its corners staying corners.

    As in the reference, a last row or column whose coordinate is rounded beyond the edge is black.

    Args:
        x (numpy.ndarray): (H, W), float32 or float64, or (H, W, 3), float32.
        factor (float): The sides grow by it and are rounded.
    """
    crops, sizes = x.shape[:2], [round(side * factor) for side in x.shape[:2]]
    steps = [(crop - 1) / (size - 1) for crop, size in zip(crops, sizes, strict=True)]
    if x.ndim == 2:  # exact, which matters where a threshold follows
        wide = _stretch(np.ascontiguousarray(x.T), sizes[1], steps[1])
        enlarged = _stretch(np.ascontiguousarray(wide.T), sizes[0], steps[0])
    else:
        matrix = np.float64([[steps[1], 0, 0], [0, steps[0], 0]])
        enlarged = cv2.warpAffine(np.ascontiguousarray(x), matrix, sizes[::-1],
                                  borderMode=cv2.BORDER_REPLICATE,
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
    stretched, rise = x.take(first, axis=0), x.take(first + 1, axis=0)
    rise -= stretched
    rise *= share
    stretched += rise
    return stretched
