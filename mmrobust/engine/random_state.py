"""The random generators of a process: keeping, restoring and seeding them."""
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

RandomState = dict[str, Any]


def capture(with_gpu: bool = True) -> RandomState:
    """The states of Python's, NumPy's and torch's global generators, in plain lists and tensors.

    Args:
        with_gpu (bool): Whether to include the current GPU's, if one is in use.
    """
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    state = dict(python=[version, list(words), gauss],
                 numpy=[name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached],
                 torch=torch.get_rng_state())
    if with_gpu and torch.cuda.is_available() and torch.cuda.is_initialized():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def restore(state: RandomState) -> None:
    """Set the generators to what :func:`capture` returned."""
    version, words, gauss = state['python']
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = state['numpy']
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state['torch'].cpu())
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())


@contextmanager
def undisturbed(with_gpu: bool = True) -> Iterator[None]:
    """What is drawn within the context changes nothing that is drawn after it."""
    state = capture(with_gpu)
    try:
        yield
    finally:
        restore(state)


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Draws within the context, on the CPU, depend on ``key`` only, and leave no trace."""
    words = np.random.SeedSequence(key).generate_state(8)
    with undisturbed(with_gpu=False):
        random.seed(int.from_bytes(words[:2].tobytes(), 'little'))
        np.random.seed(words[2:6])
        torch.default_generator.manual_seed(int.from_bytes(words[6:].tobytes(), 'little') >> 1)
        yield
