"""Weather: snow, frost, fog, and water or mud on the lens."""

import importlib.util
import math
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mmrobust.corruptions.filters import centre, enlarge, gaussian, motion, motion_kernel
from mmrobust.corruptions.kernels import cover, distances, refine, resample, splash, whiten
from mmrobust.corruptions.lookup import lookup, pair
from mmrobust.corruptions.streams import Stream

_SPARE = 16  # pixels of a whole plasma or texture for one that is seen, at most
_REPLAYED = 4096  # side of a plasma up to which it is replayed, however little of it is seen
_MARGIN = 2  # corners of a part of a plasma beyond what is seen: of more the pixels know nothing
_UNIT = np.arange(256, dtype=np.float32) / np.float32(255)
_TEXTURES = ('frost1.png', 'frost2.png', 'frost3.png', 'frost4.jpg', 'frost5.jpg')
_WATER = np.float32([175, 238, 238])
_MUD = np.float32([63, 42, 20])


def snow(image: np.ndarray, stream: Stream, loc: float, scale: float, factor: float,
         threshold: float, radius: int, sigma: float, mix: float) -> np.ndarray:
    """Whitens the image and lets flakes fall, half of them upwards."""
    height, width = shape = image.shape[:2]
    crop = centre(shape, factor)
    if stream.replays:
        flakes = stream.normal(loc, scale, shape)[crop]
    else:  # the rest would not be seen
        flakes = stream.normal(loc, scale, [part.stop - part.start for part in crop])
    flakes = enlarge(flakes, factor)
    flakes = np.minimum(flakes * (flakes >= threshold), 1).astype(np.float32)
    taps = motion_kernel(radius, sigma, stream.uniform(-135, -45), flakes.shape)
    flakes = np.rint(motion(flakes, *taps)[:height, :width] * np.float32(255))
    result = np.empty_like(image)
    whiten(image, _UNIT, flakes, np.float32(mix), np.float32(1 - mix), result)
    return result


def frost(image: np.ndarray, stream: Stream, image_weight: float, frost_weight: float,
          shrink: float | None = None) -> np.ndarray:
    """Lays the photograph of a frozen window over the image.

    Args:
        shrink (float, optional): Scale of the photograph. By default it is made to cover the image.
    """
    height, width = image.shape[:2]
    index = int(stream.integers(0, len(_TEXTURES)))
    tall, wide = size = _texture_size(index, height, width, shrink)
    top, left = stream.integers(0, tall - height), stream.integers(0, wide - width)
    if tall * wide <= _SPARE * height * width:
        whole = _scaled_texture(index, size, shrink is None)
        texture = whole[top:top + height, left:left + width]
    else:
        texture = _part(_texture(index), size, shrink is None, top, left, height, width)
    return lookup(_frosted(image_weight, frost_weight), pair(image, texture))


@lru_cache(maxsize=32)
def _frosted(image_weight: float, frost_weight: float) -> np.ndarray:
    levels = np.arange(256.)
    return np.clip(image_weight * levels[:, None] + frost_weight * levels, 0, 255).astype(np.uint8)


def _texture_size(index: int, height: int, width: int, shrink: float | None) -> tuple[int, int]:
    """Returns the sides to which to scale a texture, so that it covers an image."""
    sides = _texture(index).shape[:2]
    needed = max(height / sides[0], width / sides[1])
    if shrink is None:
        return tuple(math.ceil(side * (max(1, needed) * 1.1)) for side in sides)
    return tuple(round(side * max(shrink, needed * 1.1)) for side in sides)


@lru_cache(maxsize=len(_TEXTURES))
def _scaled_texture(index: int, size: tuple[int, int], cubic: bool) -> np.ndarray:
    return _part(_texture(index), size, cubic, 0, 0, *size)


def _part(texture: np.ndarray, size: tuple[int, int], cubic: bool, top: int, left: int,
          height: int, width: int) -> np.ndarray:
    """Scales a texture to a size, as OpenCV does, but computes a part of it only."""
    rows, row_weights = _neighbours(len(texture), size[0], top, height, cubic)
    columns, column_weights = _neighbours(texture.shape[1], size[1], left, width, cubic)
    part = np.empty((height, width, texture.shape[2]), np.uint8)
    resample(texture, rows, row_weights, columns, column_weights, part)
    return part


def _neighbours(side: int, size: int, start: int, count: int, cubic: bool):
    """Returns the pixels to interpolate between, (count, 4), and their weights, float32."""
    position = (np.arange(start, start + count) + .5) * (side / size) - .5
    first = np.floor(position).astype(np.int64)
    x = (position - first).astype(np.float32)
    if cubic:  # with a = -3/4
        a, one = np.float32(-.75), np.float32(1)
        weights = [((a * (x + one) - 5 * a) * (x + one) + 8 * a) * (x + one) - 4 * a,
                   ((a + 2) * x - (a + 3)) * x * x + one,
                   ((a + 2) * (one - x) - (a + 3)) * (one - x) * (one - x) + one]
        weights.append(one - weights[0] - weights[1] - weights[2])
    else:
        weights = [0 * x, 1 - x, x, 0 * x]
    neighbours = np.clip(first[:, None] + np.arange(-1, 3), 0, side - 1)
    return neighbours, np.stack(weights, axis=1)


@lru_cache(maxsize=len(_TEXTURES))
def _texture(index: int) -> np.ndarray:
    package = importlib.util.find_spec('imagecorruptions')
    if package is None:
        raise ModuleNotFoundError(
            "The frost corruption takes its textures from the package 'imagecorruptions', which is "
            "not installed: run `pip install --no-deps imagecorruptions-imaug`, which changes "
            "nothing else.")
    path = Path(package.submodule_search_locations[0], 'frost', _TEXTURES[index])
    try:
        with Image.open(path) as texture:
            return np.array(texture.convert('RGB'))
    except OSError:
        raise FileNotFoundError(f'The frost texture {path} is missing or cannot be decoded: '
                                'reinstall imagecorruptions-imaug.') from None


def fog(image: np.ndarray, stream: Stream, amount: float, decay: float) -> np.ndarray:
    """Adds a plasma fractal and scales the sum back to the image's maximum."""
    plasma, low, high = _plasma(stream, *image.shape[:2], decay)
    brightest = int(image.max()) / 255
    keep = brightest / (brightest + amount)
    result = np.empty_like(image)
    cover(image, np.float32(keep), plasma, np.float32(low),
          np.float32(amount * keep * 255 / (high - low)), result)
    return result


def _plasma(stream: Stream, height: int, width: int, decay: float
            ) -> tuple[np.ndarray, float, float]:
    """Draws a periodic plasma fractal by the diamond-square algorithm.

    The map is a square whose side is a power of two. Of one that is far larger than the image, the
    last levels are drawn where it is seen only.

    Args:
        decay (float): By how much less it varies at every level.

    Returns:
        tuple[numpy.ndarray, float, float]: (H, W), float32; the least and the largest value of the
        map, as far as it is drawn.
    """
    size = whole = 1 << (max(height, width) - 1).bit_length()
    while whole * whole > _SPARE * height * width:
        whole //= 2
    if stream.replays and whole < size:
        if size > _REPLAYED:
            raise ValueError(f'Fog over an image of {width} x {height} pixels cannot replay a '
                             f'RandomState, as it would draw {size} x {size} numbers: pass a seed.')
        whole = size
    draws = stream.uniform(0, 1, (whole * whole - 1,))
    corners, wibble = np.zeros((1, 1), np.float32), 100.
    while len(corners) < whole:
        noise, draws = draws[:3 * corners.size], draws[3 * corners.size:]
        corners = _finer(corners, noise, wibble)
        wibble /= decay
    low, high, _, _ = cv2.minMaxLoc(corners)
    top = left = 0
    while whole < size:
        corners, top = _seen(corners, 0, top, -(-height * whole // size))
        corners, left = _seen(corners, 1, left, -(-width * whole // size))
        corners = _finer(corners, stream.uniform(0, 1, (3 * corners.size,)), wibble)
        wibble, whole, top, left = wibble / decay, 2 * whole, 2 * top, 2 * left
    seen = corners[top:top + height, left:left + width]
    least, largest, _, _ = cv2.minMaxLoc(np.ascontiguousarray(seen))
    return seen, min(low, least), max(high, largest)


def _finer(corners: np.ndarray, noise: np.ndarray, wibble: float) -> np.ndarray:
    finer = np.empty([2 * side for side in corners.shape], np.float32)
    refine(corners, noise.reshape(3, *corners.shape), np.float32(wibble * wibble), finer)
    return finer


def _seen(corners: np.ndarray, axis: int, start: int, count: int) -> tuple[np.ndarray, int]:
    """Cuts a map along an axis to what is seen and a margin; returns where that starts now."""
    wanted = np.arange(start - _MARGIN, start + count + 1 + _MARGIN)
    if len(wanted) >= corners.shape[axis]:
        return corners, start
    return corners.take(wanted, axis=axis, mode='wrap'), _MARGIN


def spatter(image: np.ndarray, stream: Stream, loc: float, scale: float, sigma: float,
            threshold: float, intensity: float, mud: bool) -> np.ndarray:
    """Splashes water or mud on the lens."""
    layer = stream.normal(loc, scale, image.shape[:2])
    layer = gaussian(layer, sigma)
    layer *= layer >= threshold
    if mud:
        share = gaussian((layer > threshold).astype(np.float32), intensity)
        share *= share >= .8
    else:
        share = _water(layer) * np.float32(intensity)
    result = np.empty_like(image)
    splash(image, share, _MUD if mud else _WATER, bool(mud), result)
    return result


def _depth(edges: np.ndarray) -> np.ndarray:
    """Returns the distance to the next edge, as OpenCV's transform with 5 x 5 neighbours."""
    depth = np.empty([side + 4 for side in edges.shape], np.float32)
    distances(edges, np.float32(1), np.float32(1.4), np.float32(2.1969), depth)
    return depth[2:-2, 2:-2]


def _mean(x: np.ndarray) -> np.ndarray:
    """Returns the mean of 3 x 3 neighbours."""
    x = np.pad(x, 1, 'reflect')
    x = (x[:, :-2] + x[:, 1:-1]) + x[:, 2:]
    return ((x[:-2] + x[1:-1]) + x[2:]) * np.float32(1 / 9)


def _water(layer: np.ndarray) -> np.ndarray:
    """Shades drops by the distance from their edges, at most 1."""
    drops = (layer * 255).astype(np.int32).astype(np.uint8)  # of what is above 255, the remainder
    depth = _mean(np.minimum(_depth(cv2.Canny(drops, 50, 150)), 20)).astype(np.uint8)
    depth = cv2.equalizeHist(depth)
    emboss = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    depth = cv2.blur(cv2.filter2D(depth, cv2.CV_8U, emboss), (3, 3))
    drops = drops.astype(np.float32) * depth
    return drops / max(drops.max(), np.float32(1))
