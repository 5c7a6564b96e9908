"""Fixtures shared by the whole suite."""
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope

import mmrobust  # noqa: F401  registers everything

ROOT = Path(__file__).resolve().parents[1]


torch.manual_seed(0)  # models that are built while tests are collected


@pytest.fixture(autouse=True)
def same_draws():
    """Every run of a test draws the same numbers."""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)


@pytest.fixture(autouse=True)
def no_default_scope():
    """MMEngine's default scope is global: what a test or a wider fixture makes of it ends here."""
    DefaultScope._instance_dict.clear()
    yield
    DefaultScope._instance_dict.clear()


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
def parity(request):
    """Loads a parity fixture by name: a small one from tests/data, or else from the shared ones."""

    def load(name: str) -> np.lib.npyio.NpzFile:
        path = ROOT / 'tests' / 'data' / 'parity' / f'{name}.npz'
        if not path.is_file():
            path = request.getfixturevalue('shared') / 'parity' / f'{name}.npz'
        return np.load(path, allow_pickle=False)

    return load
