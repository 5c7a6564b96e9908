"""What differs between torch 2.1 and the newest, in one place.

Tensor functions keep theirs in ``ops/backend.py``: they import torch only.
"""
import contextlib
from collections.abc import Callable, Iterable, Iterator

import torch

OutOfMemoryError: type[Exception] = getattr(torch, 'OutOfMemoryError', None) or (
    torch.cuda.OutOfMemoryError)  # its name before torch 2.5

HAS_SAFE_GLOBALS = hasattr(torch.serialization, 'safe_globals')  # from torch 2.5 on

# whether compiled checkpointing updates running statistics once: tried with 2.14; twice with 2.5,
# an error with 2.1
COMPILES_CHECKPOINTS = torch.__version__ >= (2, 14)


@contextlib.contextmanager
def safe_globals(objects: Iterable[Callable]) -> Iterator[None]:
    """Let torch's weights-only reader build these within a ``with`` block.

    Before torch 2.5 its list cannot be added to: a reader of ours takes its place, as strict.
    """
    if HAS_SAFE_GLOBALS:
        with torch.serialization.safe_globals(list(objects)):
            yield
    else:
        from .unpickling import reading
        with reading(objects):
            yield


@contextlib.contextmanager
def dense_attention() -> Iterator[None]:
    """Let torch compute attention by matrix products, which its operation counter sees."""
    try:
        from torch.nn.attention import SDPBackend, sdpa_kernel  # from torch 2.3 on
    except ImportError:
        with torch.backends.cuda.sdp_kernel(enable_flash=False, enable_mem_efficient=False,
                                            enable_math=True):
            yield
    else:
        with sdpa_kernel(SDPBackend.MATH):
            yield
