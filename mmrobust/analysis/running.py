"""Statistics of a stream of numbers, in memory that does not grow with it."""
import math

import numpy as np

RESOLUTION = 2000  # bins of [0, 1]


class RunningMean:
    """Mean and standard deviation (Welford's recurrence); NaN counts as missing."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = math.nan
        self._squares = 0.

    def add(self, value: float) -> None:
        """Take one more number into account."""
        if math.isnan(value):
            return
        self.count += 1
        if self.count == 1:
            self.mean = value
            return
        change = value - self.mean
        self.mean += change / self.count
        self._squares += change * (value - self.mean)

    @property
    def std(self) -> float:
        """Population standard deviation."""
        return math.sqrt(self._squares / self.count) if self.count else math.nan


class RunningHistogram(RunningMean):
    """Also how numbers of [0, 1] are distributed, such as cosines of attention maps."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = np.zeros(RESOLUTION, np.int64)
        self.least, self.most = math.inf, -math.inf

    def add(self, value: float) -> None:
        super().add(value)
        if math.isnan(value):
            return
        self.least, self.most = min(self.least, value), max(self.most, value)
        # rounding may carry a cosine a little beyond 1
        self.counts[min(max(int(value * RESOLUTION), 0), RESOLUTION - 1)] += 1

    def bars(self, low: float, high: float, bins: int) -> tuple[np.ndarray, np.ndarray]:
        """Counts of about so many bins between two numbers, and their edges.

        Edges lie on those of the fine bins that are kept, and within [0, 1].
        """
        first = min(max(0, math.floor(low * RESOLUTION)), RESOLUTION - 1)
        last = max(min(RESOLUTION, math.ceil(high * RESOLUTION)), first + 1)
        step = max(1, math.ceil((last - first) / bins))
        number = math.ceil((last - first) / step)
        edges = max(0, min(first, RESOLUTION - number * step)) + step * np.arange(number + 1)
        counts = [self.counts[a:b].sum() for a, b in zip(edges, edges[1:], strict=False)]
        return np.array(counts), edges / RESOLUTION
