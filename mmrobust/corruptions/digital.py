"""Digital artefacts: compression, pixels too large, elastic deformation."""

import cv2
import numpy as np
from PIL import Image

from mmrobust.corruptions.filters import gaussian, truncate
from mmrobust.corruptions.streams import Stream


def jpeg_compression(image: np.ndarray, stream: Stream, quality: int) -> np.ndarray:
    """Encodes and decodes as JPEG."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, code = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.cvtColor(cv2.imdecode(code, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


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
