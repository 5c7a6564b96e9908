"""The two kinds of random stream that corruptions draw from."""

import math
from functools import cache, cached_property, lru_cache

import numpy as np
from scipy.special import ndtri

from mmrobust.corruptions.lookup import lookup


class ReplayStream:
    """Draws what the reference package draws from NumPy's global stream, one for one.

    Args:
        rng (numpy.random.RandomState): The stream to replay.
    """

    replays = True

    def __init__(self, rng: np.random.RandomState):
        self.rng = rng

    def normal(self, loc: float, scale: float, shape: tuple[int, ...]) -> np.ndarray:
        return self.rng.normal(loc, scale, shape)

    def uniform(self, low: float, high: float, shape: tuple[int, ...] | None = None):
        return self.rng.uniform(low, high, shape)

    def integers(self, low: int, high: int, shape: tuple[int, ...] | None = None):
        return self.rng.randint(low, high, shape)


class FastStream:
    """Draws fields from 16 random bits per value: as fine as an 8-bit picture can show.

    Args:
        source (numpy.random.Generator | int | None): The source of the bits, or its seed.
    """

    replays = False

    def __init__(self, source: np.random.Generator | int | None):
        self._source = source

    @cached_property
    def rng(self) -> np.random.Generator:  # many corruptions need none
        if isinstance(self._source, np.random.Generator):
            return self._source
        return np.random.Generator(np.random.PCG64(self._source))

    def bits(self, dtype, shape: tuple[int, ...]) -> np.ndarray:
        """Returns uniformly distributed values of an unsigned integer type."""
        count = math.prod(shape)
        words = -(-count * np.dtype(dtype).itemsize // 8)
        raw = self.rng.integers(0, 2**64, words, dtype=np.uint64).astype('<u8', copy=False)
        return raw.view(dtype)[:count].reshape(shape)

    def bytes_below(self, count: int, shape: tuple[int, ...]) -> np.ndarray:
        """Returns uniformly distributed bytes smaller than ``count``."""
        if 256 % count:
            return lookup(_shares(count), self.bits(np.uint16, shape))
        return self.bits(np.uint8, shape) & np.uint8(count - 1)

    def normal(self, loc: float, scale: float, shape: tuple[int, ...]) -> np.ndarray:
        return lookup(_normal_quantiles(loc, scale), self.bits(np.uint16, shape))

    def uniform(self, low: float, high: float, shape: tuple[int, ...] | None = None):
        if shape is None:
            return low + (high - low) * (self._word() >> 11) / 2**53
        step = (high - low) / 65536
        field = self.bits(np.uint16, shape).astype(np.float32)
        field *= np.float32(step)
        field += np.float32(low + step / 2)
        return field

    def integers(self, low: int, high: int, shape: tuple[int, ...] | None = None):
        if shape is None:
            return low + (self._word() * (high - low) >> 64)
        return low + (self.bits(np.uint32, shape).astype(np.uint64) * np.uint64(high - low)
                      >> np.uint64(32)).astype(np.int64)

    def _word(self) -> int:
        return int(self.bits(np.uint64, (1,))[0])


@lru_cache(maxsize=16)
def _normal_quantiles(loc: float, scale: float) -> np.ndarray:
    return (loc + scale * _standard_quantiles()).astype(np.float32)


@cache
def _standard_quantiles() -> np.ndarray:
    """Rounded, as the last bits depend on the version of SciPy."""
    return np.rint(ndtri((np.arange(65536) + .5) / 65536) * 2**20) / 2**20


@lru_cache(maxsize=4)
def _shares(count: int) -> np.ndarray:
    """Divides 65536 states among ``count`` bytes, as equally as possible."""
    return (np.arange(65536) * count >> 16).astype(np.uint8)


Stream = ReplayStream | FastStream
