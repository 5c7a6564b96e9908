"""Blur: Gaussian, out of focus, behind glass, in motion, zooming."""

from functools import lru_cache

import cv2
import numpy as np

from mmrobust.corruptions.filters import (centre, enlarge, gaussian, gaussian_ties, motion,
                                          motion_kernel, to_float, truncate)
from mmrobust.corruptions.lookup import lookup
from mmrobust.corruptions.streams import Stream


def gaussian_blur(image: np.ndarray, stream: Stream, sigma: float) -> np.ndarray:
    """Filters with a Gaussian of ``sigma`` pixels."""
    return truncate(gaussian(to_float(image, gaussian_ties(sigma)), sigma))


def defocus_blur(image: np.ndarray, stream: Stream, radius: float, alias: float) -> np.ndarray:
    """Filters with an antialiased disk of ``radius`` pixels."""
    kernel = _disk(radius, alias)
    flat = np.arange(256) * kernel.sum(dtype=np.float64)
    blurred = cv2.filter2D(to_float(image, flat), -1, kernel)
    return truncate(blurred)


@lru_cache(maxsize=16)
def _disk(radius: float, alias: float) -> np.ndarray:
    half, size = (8, 3) if radius <= 8 else (int(radius), 5)
    offset = np.arange(-half, half + 1)
    disk = (offset ** 2 + offset[:, None] ** 2 <= radius ** 2).astype(np.float32)
    disk = cv2.GaussianBlur(disk / disk.sum(), (size, size), alias)
    margin = np.flatnonzero(disk.any(axis=0))[0]  # the zeros around the disk cost time
    return disk[margin:len(disk) - margin, margin:len(disk) - margin].copy()


def motion_blur(image: np.ndarray, stream: Stream, radius: int, sigma: float) -> np.ndarray:
    """Smears along a random direction within 45 degrees of the horizontal."""
    taps = motion_kernel(radius, sigma, stream.uniform(-45, 45), image.shape)
    flat = np.zeros(256)
    for weight, _, _ in taps:
        flat += weight * np.arange(256)
    return truncate(motion(to_float(image, flat), taps))


def zoom_blur(image: np.ndarray, stream: Stream, step: float, end: float) -> np.ndarray:
    """Averages the image with ever larger enlargements of its centre."""
    factors = np.arange(1, end, step)
    height, width = image.shape[:2]
    x = to_float(image, _zoom_ties(len(factors)))
    total = 2 * x  # the image itself, and its enlargement by 1
    for factor in factors[1:]:
        layer = enlarge(np.ascontiguousarray(x[centre(x.shape, factor)]), factor)[:height, :width]
        rows, columns = layer.shape[:2]
        total[:rows, :columns] += layer
    total /= len(factors) + 1
    return truncate(total)


def _zoom_ties(layers: int) -> np.ndarray:
    x = np.arange(256, dtype=np.float32) / np.float32(255)
    return (x + sum([x] * layers)) / (layers + 1) * 255


def glass_blur(image: np.ndarray, stream: Stream, sigma: float, delta: int,
               iterations: int) -> np.ndarray:
    """Moves pixels around within ``delta`` pixels, between two Gaussian filters."""
    scattered = gaussian_blur(image, stream, sigma)
    for _ in range(iterations):
        scattered = _scatter(scattered, stream, delta)
    return gaussian_blur(scattered, stream, sigma)


def _scatter(image: np.ndarray, stream: Stream, delta: int) -> np.ndarray:
    """Copies to each pixel, from the last to the first, one at most ``delta`` away.

    A source that comes later in the image has been overwritten by then. Instead of copying pixel
    after pixel, the chains of such sources are followed to their ends, all of them together.
    """
    height, width = image.shape[:2]
    inner = slice(delta + 1, height - delta + 1), slice(delta + 1, width - delta + 1)
    source = np.arange(height * width).reshape(height, width)
    later = np.zeros((height, width), bool)
    choice = _choices(stream, delta, source[inner].shape)
    dy, dx = np.divmod(np.arange(256), 2 * delta) - np.int64(delta)
    move = (dy * width + dx).astype(np.int32)
    source[inner] += lookup(move, choice)
    later[inner] = lookup((move > 0).view(np.uint8), choice).view(bool)
    source, later = source.ravel(), later.ravel()

    start = np.flatnonzero(later)
    end = source.take(start)
    open_ = np.flatnonzero(later.take(end))
    while len(open_):
        step = source.take(end.take(open_))
        end[open_] = step
        open_ = open_.compress(later.take(step))
    source[start] = source.take(end)
    return image.reshape(-1, 3).take(source, axis=0).reshape(image.shape)


def _choices(stream: Stream, delta: int, shape: tuple[int, int]) -> np.ndarray:
    """Draws one of the (2 delta)^2 displacements per pixel, as a byte."""
    count = (2 * delta) ** 2
    if not stream.replays:
        return stream.bytes_below(count, shape)
    steps = stream.integers(-delta, delta, (*shape, 2))[::-1, ::-1] + delta  # dx, dy; last first
    return (steps[..., 1] * 2 * delta + steps[..., 0]).astype(np.uint8)
