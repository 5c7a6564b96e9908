import numpy as np
import pytest

from mmrobust.corruptions import lookup as module
from mmrobust.corruptions.lookup import lookup, pair


@pytest.mark.parametrize('wide_tables', [True, False])
@pytest.mark.parametrize('shape', [(5,), (5, 7), (5, 7, 3)])
@pytest.mark.parametrize('kind', [np.uint8, np.uint16])
def test_lookup(shape, kind, wide_tables, monkeypatch):
    """With OpenCV 5, and as with OpenCV 4, which has no tables of 65536 values."""
    monkeypatch.setattr(module, '_WIDE_TABLES', wide_tables and module._WIDE_TABLES)
    rng = np.random.default_rng(0)
    size = np.iinfo(kind).max + 1
    index = rng.integers(0, size, shape, dtype=kind)
    for table in (rng.random(size, dtype=np.float32), np.arange(size, dtype=np.uint16)[::-1]):
        np.testing.assert_array_equal(lookup(table, index), table[index])


def test_pair():
    high, low = np.arange(6, dtype=np.uint8).reshape(1, 2, 3), np.full((1, 2, 3), 9, np.uint8)
    np.testing.assert_array_equal(pair(high, low), high.astype(int) * 256 + 9)
