"""Blur: Gaussian, out of focus, behind glass, in motion, zooming."""

from functools import lru_cache

import cv2
import numpy as np

from mmrobust.corruptions.filters import (
    Scale,
    centre,
    exp,
    gaussian_kernel,
    gaussian_scale,
    is_whiter,
    motion,
    motion_kernel,
    on_scale,
    positions,
    separable,
)
from mmrobust.corruptions.kernels import add_enlarged, scatter, sum_symmetric
from mmrobust.corruptions.streams import Stream


def gaussian_blur(image: np.ndarray, stream: Stream, sigma: float) -> np.ndarray:
    """Filters with a Gaussian of ``sigma`` pixels."""
    scale, weights = gaussian_scale(sigma, is_whiter(image)), gaussian_kernel(sigma)
    reach = len(weights) // 2
    image = cv2.copyMakeBorder(image, *[reach] * 4, cv2.BORDER_REPLICATE)
    return on_scale(image, scale, 2 * reach, lambda x: separable(x, weights, weights))


def defocus_blur(image: np.ndarray, stream: Stream, radius: float, alias: float) -> np.ndarray:
    """Filters with an antialiased disk of ``radius`` pixels."""
    kernel, scale = _disk(radius, alias)
    reach = len(kernel) // 2
    image = cv2.copyMakeBorder(image, *[reach] * 4, cv2.BORDER_REFLECT_101)

    def filtered(x: np.ndarray) -> np.ndarray:
        height, width = (side - 2 * reach for side in x.shape[:2])
        total = np.empty((height, width * 3), np.float32)
        sum_symmetric(x.reshape(len(x), -1), kernel, 3, total)
        np.minimum(total, 255, out=total)  # the weights of a disk that is cut off sum to 1.01
        return total.reshape(height, width, 3)

    return on_scale(image, scale, 2 * reach, filtered)


@lru_cache(maxsize=16)
def _disk(radius: float, alias: float) -> tuple[np.ndarray, Scale]:
    half, size = (8, 3) if radius <= 8 else (int(radius), 5)
    offset = np.arange(-half, half + 1)
    disk = (offset ** 2 + offset[:, None] ** 2 <= radius ** 2).astype(np.float32)
    disk /= np.float32(np.count_nonzero(disk))
    weights = exp(-(np.arange(size) - size // 2) ** 2 / (2 * alias ** 2))
    weights = (weights / weights.sum()).astype(np.float32)
    for _ in range(2):
        wide = np.pad(disk, ((0, 0), (size // 2, size // 2)), 'reflect')
        disk = weights[size // 2] * disk
        for step in range(1, size // 2 + 1):
            left = wide[:, size // 2 - step:][:, :len(disk)]
            disk += weights[size // 2 + step] * (left + wide[:, size // 2 + step:][:, :len(disk)])
        disk = disk.T
    disk[disk < 1e-15] = 0  # lost in the sum, but they would cost time, as do zeros around it
    margin = np.flatnonzero(disk.any(axis=0))[0]
    disk = np.ascontiguousarray(disk[margin:len(disk) - margin, margin:len(disk) - margin])
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
    scale = Scale(_flat_zoom(len(factors)))
    x = scale(image)
    total = 2 * x  # the image itself, and its enlargement by 1
    for factor in factors[1:].tolist():
        layer = np.ascontiguousarray(x[centre(x.shape, factor)])
        add_enlarged(layer, *_places(layer, x, 0, factor), *_places(layer, x, 1, factor), total)
    total *= np.float32(1 / (len(factors) + 1))
    return scale.truncate(total)


def _places(layer: np.ndarray, image: np.ndarray, axis: int, factor: float):
    """Returns the neighbours and shares of the places that lie in the image and are not black."""
    first, share, black = positions(layer.shape[axis], factor)
    end = min(len(first) - black, image.shape[axis])
    return first[:end], share[:end].astype(np.float32)


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
    scatter(pixels.reshape(-1), choices, moves, (delta + 1) * (width + 1), width)


def _choices(stream: Stream, delta: int, shape: tuple[int, int]) -> np.ndarray:
    """Draws one of the (2 delta)^2 displacements per pixel, as a byte."""
    if not stream.replays:
        return stream.bytes_below((2 * delta) ** 2, shape)
    steps = stream.integers(-delta, delta, (*shape, 2))[::-1, ::-1] + delta  # dx, dy; last first
    return (steps[..., 1] * 2 * delta + steps[..., 0]).astype(np.uint8)
