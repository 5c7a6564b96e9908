"""The pixels are those that were stored, with these libraries and on this processor too."""
import json

import cv2
import pytest
from digests import STORED, digests

from mmrobust.corruptions import NAMES


@pytest.mark.parametrize('name', NAMES)
def test_digests(name):
    """Where one differs, ``compare_environments.py`` tells which library decides.

    A deliberate change of the pixels is stored by ``digests.py --write``.
    """
    stored = {cell: value for cell, value in json.loads(STORED.read_text('utf-8')).items()
              if cell.split()[1] == name}
    assert len(stored) == 2 * 5 * 2
    assert digests(names=[name]) == stored


@pytest.mark.parametrize('threads', [1, 2, 8])
def test_threads_change_nothing(threads):
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(threads)
        found = digests({'large': (300, 400, 3)}, names=['spatter', 'gaussian_blur', 'fog'])
    finally:
        cv2.setNumThreads(before)
    assert found == _alone()


def _alone() -> dict[str, str]:
    if not _ALONE:
        _ALONE.update(digests({'large': (300, 400, 3)}, names=['spatter', 'gaussian_blur', 'fog']))
    return _ALONE


_ALONE: dict[str, str] = {}
