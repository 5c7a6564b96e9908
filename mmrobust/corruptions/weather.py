"""Weather: snow, frost, fog, and water or mud on the lens."""

import importlib.util
import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from mmrobust.corruptions.filters import (
    centre,
    clip,
    enlarge,
    gaussian,
    motion,
    motion_kernel,
    strips,
)
from mmrobust.corruptions.lookup import lookup, pair
from mmrobust.corruptions.streams import Stream

_STRIP = 1 << 14  # pixels
_COARSE = 16  # side up to which the plasma is a product with a matrix
_UNIT = np.arange(256, dtype=np.float32) / np.float32(255)
_TEXTURES = ('frost1.png', 'frost2.png', 'frost3.png', 'frost4.jpg', 'frost5.jpg')
_TRUNCATE = np.float32(-.49998)  # to be added where OpenCV rounds
_WATER = np.float32([175, 238, 238]) / np.float32(255)
_MUD = np.float32([63, 42, 20]) / np.float32(255)


def snow(image: np.ndarray, stream: Stream, loc: float, scale: float, factor: float,
         threshold: float, radius: int, sigma: float, mix: float) -> np.ndarray:
    """Whitens the image and lets flakes fall, half of them upwards."""
    shape = image.shape[:2]
    crop = centre(shape, factor)
    if stream.replays:
        flakes = stream.normal(loc, scale, shape)[crop]
    else:  # the rest would not be seen
        flakes = stream.normal(loc, scale, [part.stop - part.start for part in crop])
    flakes = enlarge(flakes, factor)
    flakes = cv2.min(flakes * (flakes >= threshold), 1).astype(np.float32)
    taps = motion_kernel(radius, sigma, stream.uniform(-135, -45), flakes.shape)
    flakes = np.rint(motion(flakes, *taps) * 255)[:shape[0], :shape[1]]
    flakes = flakes + cv2.rotate(flakes, cv2.ROTATE_180)

    def whiten(part: np.ndarray, flakes: np.ndarray) -> np.ndarray:
        x = lookup(_UNIT, part)
        white = cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) * 1.5 + .5
        whitened = cv2.max(x, _three(white))
        whitened *= 1 - mix
        x *= mix
        x += whitened
        x *= 255
        x += _three(flakes)
        return clip(x)

    return _by_strips(whiten, image, flakes)


def _three(layer: np.ndarray) -> np.ndarray:
    """Repeats a layer for every channel: (H, W) to (H, W, 3), twice as fast as merging."""
    return cv2.cvtColor(layer, cv2.COLOR_GRAY2RGB)


def _by_strips(function: Callable, image: np.ndarray, *layers: np.ndarray) -> np.ndarray:
    """Applies a function of the pixels and the layers over them."""
    result = np.empty_like(image)
    for rows in strips(image, _STRIP):
        result[rows] = function(image[rows], *(layer[rows] for layer in layers))
    return result


def frost(image: np.ndarray, stream: Stream, image_weight: float, frost_weight: float,
          shrink: float | None = None) -> np.ndarray:
    """Lays the photograph of a frozen window over the image.

    Args:
        shrink (float, optional): Scale of the photograph. By default it is made to cover the image.
    """
    height, width = image.shape[:2]
    index = stream.integers(0, len(_TEXTURES))
    texture = _scaled_texture(int(index), height, width, shrink)
    top = stream.integers(0, texture.shape[0] - height)
    left = stream.integers(0, texture.shape[1] - width)
    texture = texture[top:top + height, left:left + width]
    return lookup(_frosted(image_weight, frost_weight), pair(image, texture))


@lru_cache(maxsize=32)
def _frosted(image_weight: float, frost_weight: float) -> np.ndarray:
    levels = np.arange(256.)
    return np.clip(image_weight * levels[:, None] + frost_weight * levels, 0, 255).astype(np.uint8)


@lru_cache(maxsize=len(_TEXTURES))
def _scaled_texture(index: int, height: int, width: int, shrink: float | None) -> np.ndarray:
    texture = _texture(index)
    cover = max(height / texture.shape[0], width / texture.shape[1])
    if shrink is None:
        scale, round_, interpolation = max(1, cover) * 1.1, math.ceil, cv2.INTER_CUBIC
    else:
        scale, round_, interpolation = max(shrink, cover * 1.1), round, cv2.INTER_LINEAR
    size = [round_(side * scale) for side in texture.shape[1::-1]]
    return cv2.resize(texture, size, interpolation=interpolation)


@lru_cache(maxsize=len(_TEXTURES))
def _texture(index: int) -> np.ndarray:
    package = importlib.util.find_spec('imagecorruptions')
    if package is None:
        raise ModuleNotFoundError(
            "The frost corruption takes its textures from the package 'imagecorruptions', which is "
            "not installed: run `pip install imagecorruptions-imaug`.")
    path = Path(package.submodule_search_locations[0], 'frost', _TEXTURES[index])
    texture = cv2.imread(str(path))
    if texture is None:
        raise FileNotFoundError(f'The frost texture {path} is missing or cannot be decoded: '
                                'reinstall imagecorruptions-imaug.')
    return cv2.cvtColor(texture, cv2.COLOR_BGR2RGB)


def fog(image: np.ndarray, stream: Stream, amount: float, decay: float) -> np.ndarray:
    """Adds a plasma fractal and scales the sum back to the image's maximum."""
    height, width = image.shape[:2]
    size = 1 << (max(height, width) - 1).bit_length()
    plasma = _plasma(stream, size, decay)
    low, high, _, _ = cv2.minMaxLoc(plasma)
    brightest = image.max() / 255.
    keep = brightest / (brightest + amount)
    haze = plasma[:height, :width] - np.float32(low)
    haze *= np.float32(amount * keep * 255 / (high - low))

    def cover(part: np.ndarray, haze: np.ndarray) -> np.ndarray:
        return cv2.addWeighted(part, keep, _three(haze), 1, _TRUNCATE, dtype=cv2.CV_8U)

    return _by_strips(cover, image, haze)


def _plasma(stream: Stream, size: int, decay: float) -> np.ndarray:
    """Draws a periodic plasma fractal by the diamond-square algorithm.

    Args:
        size (int): Side of the map, a power of two.
        decay (float): By how much less it varies at every level.
    """
    draws = stream.uniform(0, 1, (size * size - 1,))
    side = min(size, _COARSE)
    first, slopes = _coarse_plasma(side, decay)
    coarse = first + draws[:len(slopes)] @ slopes
    return _refine(coarse.astype(np.float32).reshape(side, side), draws[len(slopes):], decay)


@lru_cache(maxsize=16)
def _coarse_plasma(side: int, decay: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns what takes the place of the first levels: the map is linear in its n draws.

    Returns:
        tuple[numpy.ndarray, numpy.ndarray]: The map for draws of 0, (n + 1,), and by how much each
        draw raises it, (n, n + 1), where n + 1 is side * side.
    """
    start = np.zeros((1, 1), np.float32)
    units = np.eye(side * side - 1, dtype=np.float32)
    first, *others = (_refine(start, draws, decay).reshape(-1)
                      for draws in [0 * units[0], *units])
    return first, np.float64(others) - first  # float64, so that every machine gets the same sum


def _refine(corners: np.ndarray, draws: np.ndarray, decay: float) -> np.ndarray:
    """Doubles the sides of a map as long as there are draws.

    Args:
        corners (numpy.ndarray): (N, N), float32, the map so far.
        draws (numpy.ndarray): M * M - N * N numbers in 0..1, for the map of M x M.
        decay (float): By how much less it varies at every level.
    """
    wibble = 100. / decay ** math.log2(len(corners))

    def varied(total: np.ndarray) -> np.ndarray:
        nonlocal draws
        noise, draws = draws[:total.size].reshape(total.shape), draws[total.size:]
        return cv2.addWeighted(total, .25, noise, 2 * wibble ** 2, -wibble ** 2, dtype=cv2.CV_32F)

    while len(draws):
        count = len(corners)
        right_down = cv2.copyMakeBorder(corners, 0, 1, 0, 1, cv2.BORDER_WRAP)
        columns = right_down[:-1] + right_down[1:]
        centres = varied(columns[:, :-1] + columns[:, 1:])
        left_up = cv2.copyMakeBorder(centres, 1, 0, 1, 0, cv2.BORDER_WRAP)
        tops = varied((centres + left_up[:-1, 1:]) + (corners + right_down[:-1, 1:]))
        lefts = varied((centres + left_up[1:, :-1]) + columns[:, :-1])
        finer = np.empty((count, 2, count, 2), np.float32)
        finer[:, 0] = cv2.merge([corners, tops])
        finer[:, 1] = cv2.merge([lefts, centres])
        corners = finer.reshape(2 * count, 2 * count)
        wibble /= decay
    return corners


def spatter(image: np.ndarray, stream: Stream, loc: float, scale: float, sigma: float,
            threshold: float, intensity: float, mud: bool) -> np.ndarray:
    """Splashes water or mud on the lens."""
    layer = stream.normal(loc, scale, image.shape[:2])
    layer = gaussian(layer, sigma)
    layer *= layer >= threshold
    if mud:
        share = gaussian((layer > threshold).astype(np.float32), intensity)
        share *= share >= .8
        colour = _MUD
    else:
        share = _water(layer) * np.float32(intensity)
        colour = _WATER

    def splash(x: np.ndarray, share: np.ndarray) -> np.ndarray:
        if mud:
            x = cv2.multiply(x, _three(1 - share), dtype=cv2.CV_32F)
        layer = cv2.merge([share * shade + _TRUNCATE for shade in 255 * colour])
        return cv2.add(x, layer, dtype=cv2.CV_8U)

    return _by_strips(splash, image, share)


def _water(layer: np.ndarray) -> np.ndarray:
    """Shades drops by the distance from their edges, at most 1."""
    drops = (layer * 255).astype(np.uint8)
    depth = cv2.distanceTransform(255 - cv2.Canny(drops, 50, 150), cv2.DIST_L2, 5)
    depth = cv2.blur(cv2.min(depth, 20), (3, 3)).astype(np.uint8)
    depth = cv2.equalizeHist(depth)
    emboss = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    depth = cv2.blur(cv2.filter2D(depth, cv2.CV_8U, emboss), (3, 3))
    drops = cv2.multiply(drops, depth, dtype=cv2.CV_32F)
    return drops / max(drops.max(), 1)
