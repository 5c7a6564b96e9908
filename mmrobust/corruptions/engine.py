"""One function for every corruption."""

import difflib
import math
import numbers

import cv2
import numpy as np
from PIL import Image

from mmrobust.corruptions import blur, colour, digital, noise, weather
from mmrobust.corruptions.severities import LEVELS, NAMES, SEVERITIES
from mmrobust.corruptions.streams import FastStream, ReplayStream, Stream

_FUNCTIONS = {name: getattr(module, name)
              for module in (noise, blur, weather, colour, digital)
              for name in NAMES if hasattr(module, name)}
SMALLEST = 32  # as in the reference; below, the severities would have no meaning
_LONGEST = {'jpeg_compression': digital.LONGEST_JPEG}


def corrupt(image: np.ndarray, name: str, severity: int, *, seed: int | None = None,
            rng: np.random.RandomState | np.random.Generator | None = None,
            family: str = 'imagenet') -> np.ndarray:
    """Corrupts an image as ImageNet-C does.

    Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
    Perturbations", ICLR 2019.

    Args:
        image (numpy.ndarray): uint8, (H, W, 3) in RGB order, or grey: (H, W) or (H, W, 1). Sizes
            that :func:`check_size` accepts: at least 32 pixels high and wide.
        name (str): One of ``mmrobust.corruptions.NAMES``.
        severity (int): 1 to 5.
        seed (int, optional): The same seed gives the same result, everywhere.
        rng (numpy.random.Generator | numpy.random.RandomState, optional): Draw from this stream
            instead. A RandomState replays the random numbers of the package imagecorruptions and
            gives its output. Without seed and rng, every call gives another result.
        family (str): The table of severities: 'imagenet', or 'cifar' for images of 32 x 32.

    Returns:
        numpy.ndarray: The corrupted image: new, of the same type and shape.

    Raises:
        ValueError: Unknown name, severity or family; unfit image; both seed and rng.
        TypeError: The image or rng is of another type.
    """
    function, parameters = _resolve(name, severity, family)
    _check(image)
    check_size(*image.shape[:2], name, severity, family)
    stream = _stream(seed, rng)
    if image.ndim == 3 and image.shape[2] == 3:
        return function(np.ascontiguousarray(image), stream, *parameters)
    plane = image.reshape(image.shape[:2])
    result = function(cv2.merge([plane] * 3), stream, *parameters)
    if name.endswith('noise'):  # every channel has its own; a mean would have less
        return np.ascontiguousarray(result[..., 0]).reshape(image.shape)
    return np.array(Image.fromarray(result).convert('L')).reshape(image.shape)


def check_size(height: int, width: int, name: str, severity: int,
               family: str = 'imagenet') -> None:
    """Says at once, and without an image, whether images of a size can be corrupted.

    Args:
        height, width (int): Of the image, in pixels.
        name, severity, family: As for :func:`corrupt`.

    Raises:
        ValueError: The image is too small or too long, or the cell is unknown.
    """
    _resolve(name, severity, family)
    if min(height, width) < SMALLEST:
        raise ValueError(f'An image of {width} x {height} pixels is too small for {name}: both '
                         f'sides need at least {SMALLEST}. Enlarge the images first.')
    longest = _LONGEST.get(name, math.inf)
    if max(height, width) > longest:
        raise ValueError(f'An image of {width} x {height} pixels is too long for {name}: no side '
                         f'may have more than {longest}. Cut it into parts first.')


def _resolve(name: str, severity: int, family: str):
    if not isinstance(name, str) or name not in _FUNCTIONS:
        near = difflib.get_close_matches(str(name), NAMES, cutoff=.5) or NAMES
        raise ValueError(f'Unknown corruption {name!r}: choose {", ".join(near)}.')
    if not isinstance(family, str) or family not in SEVERITIES:
        raise ValueError(f'Unknown family of severities {family!r}: '
                         f'choose {" or ".join(map(repr, SEVERITIES))}.')
    if not _is_integer(severity) or severity not in LEVELS:
        raise ValueError(f'The severity is {severity!r}: choose an integer from 1 to 5.')
    parameters = SEVERITIES[family][name][severity - 1]
    return _FUNCTIONS[name], parameters if isinstance(parameters, tuple) else (parameters,)


def _is_integer(value) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _check(image: np.ndarray) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = getattr(image, 'dtype', type(image).__name__)
        raise TypeError(f'The image to corrupt is {kind}: pass a uint8 numpy.ndarray.')
    if image.ndim not in (2, 3) or image.ndim == 3 and image.shape[2] not in (1, 3):
        raise ValueError(f'The image to corrupt has shape {image.shape}: '
                         'pass (H, W, 3), (H, W, 1) or (H, W).')


def _stream(seed, rng) -> Stream:
    if seed is not None and rng is not None:
        raise ValueError('Both seed and rng are given: pass only one of them.')
    if isinstance(rng, np.random.RandomState):
        return ReplayStream(rng)
    if rng is not None and not isinstance(rng, np.random.Generator):
        raise TypeError(f'rng is a {type(rng).__name__}: pass a numpy.random.Generator '
                        'or a numpy.random.RandomState.')
    if seed is not None and (not _is_integer(seed) or seed < 0):
        raise ValueError(f'The seed is {seed!r}: pass a non-negative integer or None.')
    return FastStream(seed if rng is None else rng)
