"""Blur: Gaussian, out of focus, behind glass, in motion, zooming."""

from functools import lru_cache

import cv2
import numpy as np

from mmrobust.corruptions.filters import (
    Scale,
    centre,
    clip,
    correlate,
    enlarge,
    gaussian,
    gaussian_scale,
    is_whiter,
    motion,
    motion_kernel,
)
from mmrobust.corruptions.lookup import lookup
from mmrobust.corruptions.streams import Stream

_FEW = 200  # taps up to which filtering tap by tap beats the Fourier transform
_STRIP = 1 << 16  # pixels whose indices stay in the cache


def gaussian_blur(image: np.ndarray, stream: Stream, sigma: float) -> np.ndarray:
    """Filters with a Gaussian of ``sigma`` pixels."""
    scale = gaussian_scale(sigma, is_whiter(image))
    return scale.truncate(gaussian(scale(image), sigma))


def defocus_blur(image: np.ndarray, stream: Stream, radius: float, alias: float) -> np.ndarray:
    """Filters with an antialiased disk of ``radius`` pixels."""
    kernel, scale = _disk(radius, alias)
    if np.count_nonzero(kernel) > _FEW:
        x = scale(image)
        return clip(cv2.filter2D(x, -1, kernel, x))
    reach = len(kernel) // 2
    image = cv2.copyMakeBorder(image, *[reach] * 4, cv2.BORDER_REFLECT_101)
    return correlate(image, scale, kernel)


@lru_cache(maxsize=16)
def _disk(radius: float, alias: float) -> tuple[np.ndarray, Scale]:
    half, size = (8, 3) if radius <= 8 else (int(radius), 5)
    offset = np.arange(-half, half + 1)
    disk = (offset ** 2 + offset[:, None] ** 2 <= radius ** 2).astype(np.float32)
    disk = cv2.GaussianBlur(disk / disk.sum(), (size, size), alias)
    disk[disk < 1e-15] = 0  # lost in the sum, but they would cost time, as do zeros around it
    margin = np.flatnonzero(disk.any(axis=0))[0]
    disk = disk[margin:len(disk) - margin, margin:len(disk) - margin].copy()
    return disk, Scale(np.arange(256) * disk.sum(dtype=np.float64))


def motion_blur(image: np.ndarray, stream: Stream, radius: int, sigma: float) -> np.ndarray:
    """Smears along a random direction within 45 degrees of the horizontal."""
    weights, rows, columns = motion_kernel(radius, sigma, stream.uniform(-45, 45), image.shape)
    flat = (weights[:, None] * np.arange(256)).sum(axis=0)
    complete = len(weights) > 2 * radius  # else the weights do not sum to 1
    return motion(image, weights, rows, columns, Scale(flat, complete and is_whiter(image)))


def zoom_blur(image: np.ndarray, stream: Stream, step: float, end: float) -> np.ndarray:
    """Averages the image with ever larger enlargements of its centre."""
    factors = np.arange(1, end, step)
    height, width = image.shape[:2]
    scale = Scale(_flat_zoom(len(factors)))
    x = scale(image)
    total = 2 * x  # the image itself, and its enlargement by 1
    for factor in factors[1:]:
        layer = enlarge(x[centre(x.shape, factor)], factor)[:height, :width]
        rows, columns = layer.shape[:2]
        total[:rows, :columns] += layer
    total *= np.float32(1 / (len(factors) + 1))
    return scale.truncate(total)


def _flat_zoom(layers: int) -> np.ndarray:
    x = np.arange(256, dtype=np.float32) / np.float32(255)
    return (x + sum([x] * layers)) / (layers + 1) * 255


def glass_blur(image: np.ndarray, stream: Stream, sigma: float, delta: int,
               iterations: int) -> np.ndarray:
    """Moves pixels around within ``delta`` pixels, between two Gaussian filters."""
    blurred = gaussian_blur(image, stream, sigma)
    pixels = cv2.cvtColor(blurred, cv2.COLOR_RGB2RGBA).view(np.uint32)[..., 0]
    for _ in range(iterations):
        _scatter(pixels, stream, delta)
    scattered = pixels.view(np.uint8).reshape(*pixels.shape, 4)
    return gaussian_blur(cv2.cvtColor(scattered, cv2.COLOR_RGBA2RGB), stream, sigma)


def _scatter(pixels: np.ndarray, stream: Stream, delta: int) -> None:
    """Copies to each pixel, from the last to the first, one at most ``delta`` away.

    A source that comes later has been overwritten by then. Instead of copying pixel after pixel,
    whole strips are copied, the last one first; within a strip, the chains of such sources are
    followed to their ends, all of them together.

    Args:
        pixels (numpy.ndarray): (H, W), changed in place.
    """
    height, width = pixels.shape
    moves, stay = _moves(delta, width)
    choice = _choices(stream, delta, (height - 2 * delta, width - 2 * delta))
    edges = delta + 1, delta - 1
    choice = cv2.copyMakeBorder(choice, *edges, *edges, cv2.BORDER_CONSTANT, value=stay)
    flat = pixels.reshape(-1)
    rows = max(1, _STRIP // width)
    places = np.arange(rows * width, dtype=np.int32)
    for top in reversed(range(0, height, rows)):
        move = lookup(moves, choice[top:top + rows]).reshape(-1)
        first, count = top * width, len(move)
        source = move + places[:count]
        later = move > 0
        later &= source < count
        start = np.flatnonzero(later)
        end = source.take(start)
        unfinished = np.flatnonzero(later.take(end))
        while len(unfinished):
            step = source.take(end.take(unfinished))
            end[unfinished] = step
            unfinished = unfinished.compress(later.take(step, mode='clip'))
        source[start] = source.take(end)
        source += first
        flat[first:first + count] = flat.take(source)


@lru_cache(maxsize=16)
def _moves(delta: int, width: int) -> tuple[np.ndarray, int]:
    """Returns the distance in memory of each displacement, and which one is none."""
    dy, dx = np.divmod(np.arange(256), 2 * delta)
    return ((dy - delta) * width + dx - delta).astype(np.int32), delta * (2 * delta + 1)


def _choices(stream: Stream, delta: int, shape: tuple[int, int]) -> np.ndarray:
    """Draws one of the (2 delta)^2 displacements per pixel, as a byte."""
    if not stream.replays:
        return stream.bytes_below((2 * delta) ** 2, shape)
    steps = stream.integers(-delta, delta, (*shape, 2))[::-1, ::-1] + delta  # dx, dy; last first
    return (steps[..., 1] * 2 * delta + steps[..., 0]).astype(np.uint8)
