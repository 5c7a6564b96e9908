"""Blur: Gaussian, out of focus, behind glass, in motion, zooming."""

from collections.abc import Callable
from functools import lru_cache, partial

import cv2
import numpy as np

from mmrobust.corruptions.filters import (
    FOURIER_ERROR,
    Scale,
    centre,
    correlate,
    enlarge,
    fourier,
    gaussian,
    gaussian_scale,
    is_whiter,
    motion,
    motion_kernel,
    spectrum,
)
from mmrobust.corruptions.streams import Stream

_FEW = 130  # taps up to which filtering tap by tap beats the Fourier transform


def gaussian_blur(image: np.ndarray, stream: Stream, sigma: float) -> np.ndarray:
    """Filters with a Gaussian of ``sigma`` pixels."""
    scale = gaussian_scale(sigma, is_whiter(image))
    return scale.truncate(gaussian(scale(image), sigma))


def defocus_blur(image: np.ndarray, stream: Stream, radius: float, alias: float) -> np.ndarray:
    """Filters with an antialiased disk of ``radius`` pixels."""
    kernel, scale = _disk(radius, alias)
    reach = len(kernel) // 2
    image = cv2.copyMakeBorder(image, *[reach] * 4, cv2.BORDER_REFLECT_101)
    if _is_small(kernel):
        return correlate(image, scale, kernel)
    return fourier(image, scale, reach, partial(_disk_spectrum, radius, alias))


@lru_cache(maxsize=16)
def _disk(radius: float, alias: float) -> tuple[np.ndarray, Scale]:
    half, size = (8, 3) if radius <= 8 else (int(radius), 5)
    offset = np.arange(-half, half + 1)
    disk = (offset ** 2 + offset[:, None] ** 2 <= radius ** 2).astype(np.float32)
    disk = cv2.GaussianBlur(disk / disk.sum(), (size, size), alias)
    disk[disk < 1e-15] = 0  # lost in the sum, but they would cost time, as do zeros around it
    margin = np.flatnonzero(disk.any(axis=0))[0]
    disk = disk[margin:len(disk) - margin, margin:len(disk) - margin].copy()
    flat = np.arange(256) * disk.sum(dtype=np.float64)
    return disk, Scale(flat) if _is_small(disk) else Scale(flat, error=FOURIER_ERROR)


def _is_small(kernel: np.ndarray) -> bool:
    return np.count_nonzero(kernel) < _FEW


@lru_cache(maxsize=16)
def _disk_spectrum(radius: float, alias: float, shape: tuple[int, int]) -> np.ndarray:
    return spectrum(_disk(radius, alias)[0], shape)


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

    Args:
        pixels (numpy.ndarray): (H, W), changed in place.
    """
    height, width = pixels.shape
    choices = _choices(stream, delta, (height - 2 * delta, width - 2 * delta))
    dy, dx = np.divmod(np.arange(4 * delta ** 2), 2 * delta)
    moves = (dy - delta) * width + dx - delta
    _compiled(_copy)(pixels.reshape(-1), choices, moves, (delta + 1) * (width + 1), width)


@lru_cache(maxsize=1)
def _compiled(function: Callable) -> Callable:
    """Compiles on first use: importing numba and compiling take a second."""
    import numba
    return numba.njit(nogil=True)(function)


def _copy(pixels: np.ndarray, choices: np.ndarray, moves: np.ndarray, first: int,
          width: int) -> None:
    """Copies one by one, as a source that comes later has been overwritten by then.

    Args:
        pixels (numpy.ndarray): (H * width,), changed in place.
        choices (numpy.ndarray): (h, w), for each pixel of an area the index of its move.
        moves (numpy.ndarray): Distances of the sources in memory.
        first (int): Where the area begins.
    """
    for y in range(choices.shape[0] - 1, -1, -1):
        row = first + y * width
        for x in range(choices.shape[1] - 1, -1, -1):
            pixels[row + x] = pixels[row + x + moves[choices[y, x]]]


def _choices(stream: Stream, delta: int, shape: tuple[int, int]) -> np.ndarray:
    """Draws one of the (2 delta)^2 displacements per pixel, as a byte."""
    if not stream.replays:
        return stream.bytes_below((2 * delta) ** 2, shape)
    steps = stream.integers(-delta, delta, (*shape, 2))[::-1, ::-1] + delta  # dx, dy; last first
    return (steps[..., 1] * 2 * delta + steps[..., 0]).astype(np.uint8)
