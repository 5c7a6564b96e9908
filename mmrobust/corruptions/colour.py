"""Corruptions of brightness, saturation and contrast."""

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np

from mmrobust.corruptions.filters import strips
from mmrobust.corruptions.lookup import lookup, pair
from mmrobust.corruptions.streams import Stream

_LEVELS = np.arange(256) / 255.
_STRIP = 1 << 17  # pixels


def brightness(image: np.ndarray, stream: Stream, offset: float) -> np.ndarray:
    """Adds to the value in HSV space."""
    return _recolour(image, _brighter, offset)


def saturate(image: np.ndarray, stream: Stream, factor: float, offset: float) -> np.ndarray:
    """Scales and shifts the saturation in HSV space."""
    return _recolour(image, _more_saturated, factor, offset)


def contrast(image: np.ndarray, stream: Stream, factor: float) -> np.ndarray:
    """Moves every channel towards its mean."""
    means = np.array(cv2.sumElems(image)[:3]) / (image[..., 0].size * 255.)
    tables = np.clip((_LEVELS[:, None] - means) * factor + means, 0, 1) * 255
    planes = [lookup(table, plane) for table, plane
              in zip(tables.T.astype(np.uint8).copy(), cv2.split(image), strict=True)]
    return cv2.merge(planes)


def _brighter(saturation: np.ndarray, value: np.ndarray, offset: float):
    return saturation, np.clip(value + offset, 0, 1)


def _more_saturated(saturation: np.ndarray, value: np.ndarray, factor: float, offset: float):
    return np.clip(saturation * factor + offset, 0, 1), value


def _recolour(image: np.ndarray, change: Callable, *parameters: float) -> np.ndarray:
    """Changes saturation and value, keeps the hue.

    The largest and the smallest channel of a pixel become functions of those two. The middle one
    lies between them in proportion; where that is a whole number, the rounding errors of the
    reference's way through HSV decide, and that way is taken.
    """
    tables = _recolouring(change, parameters)
    result = np.empty_like(image)
    for rows in strips(image, _STRIP):
        cv2.merge(list(_recolour_strip(cv2.split(image[rows]), *tables)), result[rows])
    return result


def _recolour_strip(planes, top, bottom, slope, saturation, value):
    red, green, blue = planes
    high = cv2.max(cv2.max(red, green), blue)
    low = cv2.min(cv2.min(red, green), blue)
    middle = cv2.max(cv2.min(red, green), cv2.min(cv2.max(red, green), blue))
    extremes = pair(high, low)
    lowest = lookup(bottom, extremes)
    new_high, new_low = lookup(top, high), lowest.astype(np.uint8)

    exact = lookup(slope, extremes) * cv2.subtract(middle, low) + lowest
    new_middle = exact.astype(np.uint8)
    close = np.abs(exact - np.rint(exact)) < 1e-3
    close &= (middle != low) & (middle != high)
    for channel in range(3):
        where = np.flatnonzero(close & (planes[channel] == high))
        if len(where):
            new_middle.reshape(-1)[where] = _middle_via_hue(
                planes, where, channel, extremes, saturation, value)

    for channel, plane in enumerate(planes):
        new = new_middle.copy()
        moves = [(new_low, cv2.compare(plane, low, cv2.CMP_EQ)),
                 (new_high, cv2.compare(plane, high, cv2.CMP_EQ))]
        # grey has the hue of red
        for source, mask in moves if channel == 0 else reversed(moves):
            cv2.copyTo(source, mask, new)
        yield new


def _middle_via_hue(planes, where, channel, extremes, saturation, value):
    """Computes the middle channel of pixels whose largest is ``channel``, in float64."""
    first, second, third = (_LEVELS.take(planes[(channel + i) % 3].reshape(-1).take(where))
                            for i in range(3))
    spread = first - np.minimum(second, third)
    ascending = second > third  # whether the sector of the hue is even
    hue = second
    hue -= third
    hue /= spread
    hue += 2 * channel
    hue /= 6
    if channel == 0:
        hue[hue < 0] += 1
    hue *= 6
    hue -= np.floor(hue)
    np.subtract(1, hue, out=hue, where=ascending)
    key = extremes.reshape(-1).take(where)
    hue *= saturation.take(key)
    middle = np.subtract(1, hue, out=hue)
    middle *= value.take(key)
    middle *= 255
    return middle.astype(np.uint8)


@lru_cache(maxsize=32)
def _recolouring(change: Callable, parameters: tuple[float, ...]):
    """Returns tables: one indexed by the largest channel, four by the largest and the smallest."""
    high, low = _LEVELS[:, None], np.minimum(_LEVELS, _LEVELS[:, None])
    spread = high - low
    saturation = np.divide(spread, high, out=np.zeros_like(spread), where=spread > 0)
    saturation, value = change(saturation, np.broadcast_to(high, (256, 256)), *parameters)
    bottom = np.clip(value * (1 - saturation), 0, 1) * 255
    steps = np.maximum(np.rint(spread * 255), 1)
    slope = (255 * value * saturation / steps).astype(np.float32)
    top = (np.clip(value[:, 0], 0, 1) * 255).astype(np.uint8)
    rounded = bottom.astype(np.float32)  # but not up: both are to have the same whole part
    bottom = np.where(rounded > bottom, np.nextafter(rounded, np.float32(0)), rounded)
    return top, bottom, slope, saturation, np.ascontiguousarray(value)
