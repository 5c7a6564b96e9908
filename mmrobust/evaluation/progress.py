"""Progress over all cells of a benchmark in the terminal."""
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from .protocols import Cell

SECONDS_BETWEEN_LINES = 15


def _not_from_host(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or getattr(record, 'benchmark', False)


@contextmanager
def quiet_console(logger: logging.Logger) -> Iterator[None]:
    """Leave what the host libraries log in each cell (tables of all classes) to the log file."""
    consoles = [h for h in logger.handlers if not isinstance(h, logging.FileHandler)]
    for handler in consoles:
        handler.addFilter(_not_from_host)
    try:
        yield
    finally:
        for handler in consoles:
            handler.removeFilter(_not_from_host)


class Progress:
    """Says how far a benchmark is and how long the rest will take.

    Args:
        logger (logging.Logger): Where to say it.
        cells (int): Number of cells to run.
    """

    def __init__(self, logger: logging.Logger, cells: int) -> None:
        self.logger = logger
        self.cells = cells
        self.finished = 0
        self._started = self._said = time.monotonic()
        self._cell, self._batches = None, 0

    def enter(self, cell: Cell, batches: int) -> None:
        """A cell begins."""
        self._cell, self._batches = cell, batches

    def step(self, batch: int) -> None:
        """So many batches of the cell are done."""
        waited = time.monotonic() - self._said
        if waited >= SECONDS_BETWEEN_LINES and batch < self._batches:
            self._say(f'{batch} of {self._batches} batches', self.finished + batch / self._batches)

    def leave(self, value: str) -> None:
        """The cell is finished."""
        self.finished += 1
        self._say(value, self.finished)

    def _say(self, text: str, done: float) -> None:
        self._said = time.monotonic()
        left = (self._said - self._started) / done * (self.cells - done)
        self.logger.info(
            f'[{min(int(done) + (done % 1 > 0), self.cells)}/{self.cells}] {self._cell}: '
            f'{text}{", " if text else ""}{timedelta(seconds=round(left))} left',
            extra=dict(benchmark=True))
