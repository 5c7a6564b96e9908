"""Activation checkpointing that changes nothing but memory."""
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint as torch_checkpoint

from mmrobust.ops.backend import is_compiling
from mmrobust.utils.compat import COMPILES_CHECKPOINTS

from .listening import current_listener, listening


@contextmanager
def _recomputation(module: nn.Module, listener) -> Iterator[None]:
    """The circumstances of the first run, less its side effects.

    The listener of that run computes again but reports nothing, and batch normalisation does not
    update its running statistics a second time.
    """
    norms = [m for m in module.modules()
             if isinstance(m, _BatchNorm) and m.num_batches_tracked is not None]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        # without its buffers it would save fewer tensors than the first time; momentum 0 keeps them
        norm.momentum, norm.num_batches_tracked = 0., norm.num_batches_tracked.clone()
    try:
        with listening(None), listening(listener.silent() if listener is not None else None):
            yield
    finally:
        for norm, (momentum, count) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


class _Recomputations:
    """:func:`_recomputation` for every backward through the same graph, one after another."""

    def __init__(self, *args: Any):
        self._args = args

    def __enter__(self) -> None:
        self._current = _recomputation(*self._args)
        self._current.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._current.__exit__(*error)


def checkpoint(module: nn.Module | Callable, *args: Any) -> Any:
    """``module(*args)``, whose activations are recomputed in backward instead of being kept.

    Gradients, running statistics and reported attention statistics equal those of a plain call.

    Args:
        module (nn.Module | Callable): Module to call, or a bound method of one.
        *args: Its arguments.
    """
    if not torch.is_grad_enabled():
        return module(*args)
    if is_compiling():
        # the compiler repeats operations, not this Python: neither a listener nor a running
        # statistic hears of them a second time; where that does not hold, activations are kept
        if not COMPILES_CHECKPOINTS:
            return module(*args)
        return torch_checkpoint(module, *args, use_reentrant=False)
    listener = current_listener()
    owner = getattr(module, '__self__', module)
    return torch_checkpoint(
        module, *args, use_reentrant=False,
        context_fn=lambda: (nullcontext(), _Recomputations(owner, listener)))
