"""Fixtures shared by the whole suite."""
from pathlib import Path

import numpy as np
import pytest

import mmrobust  # noqa: F401  registers everything

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='session')
def repo() -> Path:
    """The repository root."""
    return ROOT


@pytest.fixture(scope='session')
def shared() -> Path:
    """The folder of large reference data beside the checkout; skips where it is absent."""
    folder = ROOT.parent / 'shared'
    if not folder.is_dir():
        pytest.skip('the reference data beside the checkout is absent')
    return folder


@pytest.fixture(scope='session')
def parity(shared):
    """Loads a parity fixture by name."""

    def load(name: str) -> np.lib.npyio.NpzFile:
        return np.load(shared / 'parity' / f'{name}.npz', allow_pickle=False)

    return load
