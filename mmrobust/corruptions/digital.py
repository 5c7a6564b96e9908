"""Digital artefacts: compression, pixels too large, elastic deformation."""

import io
import numbers

import cv2
import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from mmrobust.corruptions.filters import gaussian
from mmrobust.corruptions.kernels import move
from mmrobust.corruptions.streams import Stream

LONGEST_JPEG = 65500  # the longest side that a JPEG file can have


def jpeg_compression(image: np.ndarray, stream: Stream, quality: int) -> np.ndarray:
    """Encodes and decodes as JPEG."""
    return recompress(image, quality)


def recompress(image: np.ndarray, quality: int) -> np.ndarray:
    """Returns what is left of an image that is saved as JPEG and read again.

    The published files of ImageNet-C went through this at quality 85, after every corruption.

    Args:
        image (numpy.ndarray): uint8, (H, W, 3) in RGB order, or grey: (H, W) or (H, W, 1).
        quality (int): 1 to 100, as Pillow counts.

    Returns:
        numpy.ndarray: A new image of the same type and shape.

    Raises:
        ValueError: Another quality; an image that JPEG cannot hold.
    """
    if isinstance(quality, bool) or not isinstance(quality, numbers.Integral) \
            or not 1 <= quality <= 100:
        raise ValueError(f'The JPEG quality is {quality!r}: choose an integer from 1 to 100.')
    if not 1 <= min(image.shape[:2]) <= max(image.shape[:2]) <= LONGEST_JPEG:
        raise ValueError(f'The image to compress has shape {image.shape}: the sides of a JPEG have '
                         f'1 to {LONGEST_JPEG} pixels.')
    plane = image.reshape(image.shape[:2]) if image.shape[2:] == (1,) else image
    file = io.BytesIO()
    Image.fromarray(plane).save(file, 'JPEG', quality=int(quality))
    file.seek(0)
    # not Image.open, which takes large images for an attack
    return np.array(JpegImageFile(file)).reshape(image.shape)


def pixelate(image: np.ndarray, stream: Stream, scale: float) -> np.ndarray:
    """Averages boxes of pixels and enlarges them again."""
    height, width = image.shape[:2]
    size = int(width * scale), int(height * scale)
    small = Image.fromarray(image).resize(size, Image.Resampling.BOX)
    return np.array(small.resize((width, height), Image.Resampling.NEAREST))


def elastic_transform(image: np.ndarray, stream: Stream, factor: float, amplitude: float,
                      sigma: float, movement: float) -> np.ndarray:
    """Deforms with a smooth random field, after a random affine map where ``movement`` is not 0.

    Args:
        factor (float): Of the smoothed field.
        amplitude (float): Of the field before smoothing, in heights.
        sigma (float): Of the smoothing, in sides.
        movement (float): Of three corners of a centred square, in short sides.
    """
    if movement:
        image = _random_affine(image, stream, movement * min(image.shape[:2]))
    height, width = image.shape[:2]
    columns, rows = (
        np.float32(factor) * gaussian(
            stream.uniform(-amplitude * height, amplitude * height, (height, width)),
            (sigma * height, sigma * width), cv2.BORDER_REFLECT, cut=3).astype(np.float32)
        for _ in range(2))
    return _moved(image, rows, columns)


def _random_affine(image: np.ndarray, stream: Stream, reach: float) -> np.ndarray:
    """Moves three corners of a square in the middle, and everything else with them."""
    height, width = image.shape[:2]
    half = min(height, width) // 3
    centre = np.array([height // 2, width // 2])  # as the reference has it
    first, second, third = (centre + half * np.array([[1, 1], [1, -1], [-1, -1]])
                            + stream.uniform(-reach, reach, (3, 2))).astype(np.float64).tolist()
    # (x, y) goes to second + (x - corner) * across + (y - corner) * down
    (a, c), (b, d) = (((p - q) / (2 * half) for p, q in zip(*pair, strict=True))
                      for pair in ((second, third), (first, second)))
    x = np.arange(width) - second[0]
    y = np.arange(height)[:, None] - second[1]
    scale = a * d - b * c
    columns = (d * x - b * y) / scale + (centre[0] + half) - np.arange(width)
    rows = (a * y - c * x) / scale + (centre[1] - half) - np.arange(height)[:, None]
    return _moved(image, rows.astype(np.float32), columns.astype(np.float32), edge=1)


def _moved(image: np.ndarray, rows: np.ndarray, columns: np.ndarray, edge: int = 0) -> np.ndarray:
    moved = np.empty_like(image)
    move(image, rows, columns, edge, moved)
    return moved
