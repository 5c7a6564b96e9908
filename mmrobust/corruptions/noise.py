"""Noise: every value of the image is drawn anew, independently, given what it was.

Such noise is a 256 x 256 matrix of transition probabilities P(out | in). Where no stream has to be
replayed, the result is drawn from that matrix by the alias method (Walker, 1977): two random bytes
and two table entries per value, whatever the distribution.
"""

from functools import lru_cache

import cv2
import numpy as np
from scipy.special import ndtr, pdtr

from mmrobust.corruptions.kernels import share_out
from mmrobust.corruptions.lookup import lookup, pair
from mmrobust.corruptions.streams import Stream

_LEVELS = np.arange(256.)


def gaussian_noise(image: np.ndarray, stream: Stream, scale: float) -> np.ndarray:
    """Adds normally distributed noise of the given deviation."""
    if not stream.replays:
        return _draw(image, stream, _gaussian_transitions, scale)
    noisy = image / 255.
    noisy += stream.normal(0, scale, image.shape)
    return _levels(noisy)


def speckle_noise(image: np.ndarray, stream: Stream, scale: float) -> np.ndarray:
    """Adds normally distributed noise in proportion to the value."""
    if not stream.replays:
        return _draw(image, stream, _speckle_transitions, scale)
    x = image / 255.
    return _levels(x + x * stream.normal(0, scale, image.shape))


def shot_noise(image: np.ndarray, stream: Stream, rate: float) -> np.ndarray:
    """Counts photons: Poisson noise, of which white emits ``rate`` on average."""
    if not stream.replays:
        return _draw(image, stream, _shot_transitions, rate)
    return _levels(stream.rng.poisson(image / 255. * rate) / float(rate))


def impulse_noise(image: np.ndarray, stream: Stream, amount: float) -> np.ndarray:
    """Salt and pepper: replaces a share of the values by black or white."""
    if not stream.replays:
        return _draw(image, stream, _impulse_transitions, amount)
    noisy = image.copy()
    flipped = stream.uniform(0, 1, image.shape) < amount
    salted = stream.uniform(0, 1, image.shape) < .5
    noisy[flipped & salted] = 255
    noisy[flipped & ~salted] = 0
    return noisy


def _levels(x: np.ndarray) -> np.ndarray:
    np.clip(x, 0, 1, out=x)
    x *= 255
    return x.astype(np.uint8)


def _gaussian_transitions(scale: float) -> np.ndarray:
    return _normal_transitions(np.full(256, 255 * scale))


def _speckle_transitions(scale: float) -> np.ndarray:
    return _normal_transitions(_LEVELS * scale)


def _normal_transitions(deviations: np.ndarray) -> np.ndarray:
    """P(out | in) of truncated values in + N(0, deviations[in])."""
    bounds = _LEVELS[1:] - _LEVELS[:, None]  # (256, 255): below which bound in + noise lies
    below = np.where(bounds > 0, 1., 0.)
    some = deviations > 0
    below[some] = ndtr(bounds[some] / deviations[some, None])
    return np.diff(below, axis=1, prepend=0, append=1)


def _shot_transitions(rate: float) -> np.ndarray:
    counts = np.arange(int(rate))  # more photons than white on average are white
    upto = pdtr(counts, _LEVELS[:, None] / 255 * rate)
    chances = np.diff(upto, axis=1, prepend=0, append=1)
    transitions = np.zeros((256, 256))
    levels = (np.append(counts, rate) / rate * 255).astype(np.uint8)
    np.add.at(transitions, (slice(None), levels), chances)
    return transitions


def _impulse_transitions(amount: float) -> np.ndarray:
    transitions = np.eye(256) * (1 - amount)
    transitions[:, [0, 255]] += amount / 2
    return transitions


def _draw(image: np.ndarray, stream: Stream, transitions, parameter: float) -> np.ndarray:
    """Draws every value from its row of a transition matrix."""
    threshold, alias = _alias_tables(transitions, parameter)
    column, chance = stream.bits(np.uint8, (2, len(image), image[0].size))
    index = pair(image.reshape(len(image), -1), column)
    drawn = lookup(alias, index)
    kept = cv2.compare(chance, lookup(threshold, index), cv2.CMP_LT)
    return cv2.copyTo(column, kept, drawn).reshape(image.shape)


@lru_cache(maxsize=64)
def _alias_tables(transitions, parameter: float) -> tuple[np.ndarray, np.ndarray]:
    """Walker's tables of a transition matrix, with probabilities in multiples of 1 / 65536.

    Outcome j of row i gets 256 of 65536 chances, of which it keeps ``threshold[i, j]`` and leaves
    the rest to ``alias[i, j]``.
    """
    threshold = np.full((256, 256), 255, np.uint8)
    alias = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    share_out(_apportion(transitions(parameter)), threshold, alias)
    return threshold, alias


def _apportion(probabilities: np.ndarray) -> np.ndarray:
    """Rounds each row of probabilities to 65536ths that sum to 65536 (largest remainders).

    Remainders that differ by less than a 64th count as equal: many are, and which is larger would
    be decided by the last bits of a library's functions.
    """
    exact = probabilities * 65536
    chances = np.floor(exact).astype(np.int64)
    order = np.argsort(np.rint((chances - exact) * 64), axis=1, kind='stable')
    missing = 65536 - chances.sum(axis=1, keepdims=True)
    np.put_along_axis(chances, order, np.take_along_axis(chances, order, 1) +
                      (np.arange(256) < missing), 1)
    return chances
