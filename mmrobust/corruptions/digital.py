"""Digital artefacts: compression, pixels too large, elastic deformation."""

import io
import numbers

import cv2
import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from mmrobust.corruptions.filters import gaussian, truncate
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
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def elastic_transform(image: np.ndarray, stream: Stream, factor: float, amplitude: float,
                      sigma: float, movement: float) -> np.ndarray:
    """Deforms with a smooth random field, after a random affine map where ``movement`` is not 0.

    Args:
        factor (float): Of the smoothed field.
        amplitude (float): Of the field before smoothing, in heights.
        sigma (float): Of the smoothing, in sides.
        movement (float): Of three corners of a centred square, in short sides.
    """
    height, width = image.shape[:2]
    x = image.astype(np.float32)
    if movement:
        x = _random_affine(x, stream, movement * min(height, width))
    sigmas = sigma * height, sigma * width
    columns, rows = (
        factor * gaussian(stream.uniform(-amplitude * height, amplitude * height, (height, width)),
                          sigmas, cv2.BORDER_REFLECT, cut=3)
        for _ in range(2))
    columns += np.arange(width, dtype=np.float32)
    rows += np.arange(height, dtype=np.float32)[:, None]
    moved = cv2.remap(x, columns.astype(np.float32), rows.astype(np.float32), cv2.INTER_LINEAR,
                      borderMode=cv2.BORDER_REFLECT)
    return truncate(moved)


def _random_affine(x: np.ndarray, stream: Stream, reach: float) -> np.ndarray:
    height, width = x.shape[:2]
    half = min(height, width) // 3
    centre = np.float32([height, width]) // 2
    corners = centre + half * np.float32([[1, 1], [1, -1], [-1, -1]])
    moved = corners + stream.uniform(-reach, reach, (3, 2)).astype(np.float32)
    matrix = cv2.getAffineTransform(corners, moved)
    return cv2.warpAffine(x, matrix, (width, height), flags=cv2.INTER_LINEAR,
                          borderMode=cv2.BORDER_REFLECT_101)
