"""Decoded images of a data set, kept for all cells and all processes of a run."""
import os
import pickle
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import context, reduction
from typing import Any, BinaryIO

from .images import load_named

try:
    import fcntl
except ImportError:  # Windows, which has no os.pread either
    fcntl = None

HOSTS = ('mmcv.', 'mmseg.', 'mmpretrain.', 'mmdet.')
END, ROW = struct.Struct('=q'), struct.Struct('=qq')  # END is negative when an image found no room


class DecodedImages:
    """What a loading transform gave for each image, in a temporary file that has no name.

    A benchmark reads each image once per cell, 73 times in Cityscapes-C, and decoding takes as
    long as corrupting. The file vanishes with the last process that has it open, however that
    ends; its pages are given back to the system where memory is short. Workers get it by fork and
    by spawn. The file begins with where its content ends, then place and size for each image.

    Args:
        length (int): Number of images.
        limit (float): Bytes that the file may have.
    """

    def __init__(self, length: int, limit: float) -> None:
        self._length, self._limit = length, limit
        self._file: BinaryIO | None = None
        if fcntl is not None:
            try:
                self._file = tempfile.TemporaryFile()
                begin = END.size + length * ROW.size
                os.ftruncate(self._file.fileno(), begin)
                self._write(END.pack(begin), 0)
            except OSError:  # nowhere to write: images are decoded each time
                self._file = None

    def __getstate__(self) -> dict:
        file = None
        if self._file is not None and context.get_spawning_popen() is not None:
            file = reduction.DupFd(self._file.fileno())
        return dict(vars(self), _file=file)

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        if self._file is not None:
            self._file = os.fdopen(self._file.detach(), 'r+b')

    @staticmethod
    def suits(load: Any) -> bool:
        """Whether a transform is known to load the same from the same file every time."""
        kind = type(load)
        return kind.__name__ == 'LoadImageFromFile' and kind.__module__.startswith(HOSTS)

    @property
    def full(self) -> bool:
        """Whether there was no room for some image."""
        return self._file is not None and self._end() < 0

    def load(self, load: Callable, results: dict) -> dict | None:
        """What :func:`load_named` gives, the same pixels, decoded the first time only."""
        index, path = results.get('sample_idx'), results.get('img_path')
        if self._file is None or not isinstance(index, int) or not 0 <= index < self._length:
            return load_named(load, results)
        place, size = ROW.unpack(os.pread(self._file.fileno(), ROW.size, self._row(index)))
        if size:
            known, entries = pickle.loads(os.pread(self._file.fileno(), size, place))
            if known == path:
                return {**results, **entries}
        before = dict(results)
        loaded = load_named(load, results)
        if loaded is not None:
            self._keep(index, (path, {name: value for name, value in loaded.items()
                                      if name not in before or value is not before[name]}))
        return loaded

    def _keep(self, index: int, content: tuple) -> None:
        data = pickle.dumps(content, protocol=5)
        try:
            place = self._reserve(len(data))
            if place is not None and self._write(data, place):
                self._write(ROW.pack(place, len(data)), self._row(index))
        except OSError:  # the disk is full, by others: this image is decoded again
            return

    def _reserve(self, size: int) -> int | None:
        """A place that no other process writes to; None if there is none."""
        with self._locked():
            end = self._end()
            if end >= 0 and end + size > self._limit:
                self._write(END.pack(-1), 0)
            elif end >= 0:
                self._write(END.pack(end + size), 0)
                return end
        return None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.lockf(self._file, fcntl.LOCK_EX, END.size)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, END.size)

    def _end(self) -> int:
        return END.unpack(os.pread(self._file.fileno(), END.size, 0))[0]

    @staticmethod
    def _row(index: int) -> int:
        return END.size + index * ROW.size

    def _write(self, data: bytes, place: int) -> bool:
        return os.pwrite(self._file.fileno(), data, place) == len(data)


def free_room() -> float:
    """Bytes that temporary files may take: half of what is free."""
    try:
        return shutil.disk_usage(tempfile.gettempdir()).free / 2
    except OSError:
        return 0.
