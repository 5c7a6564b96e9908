"""Which code computes an operation, and in which precision."""
import functools
import importlib
import os
from types import ModuleType

import torch
from torch import Tensor


def statistics_dtype(dtype: torch.dtype) -> torch.dtype:
    """Sums over many tokens are formed in float32 or better."""
    return torch.promote_types(dtype, torch.float32)


def triton_module(name: str, *tensors: Tensor) -> ModuleType | None:
    """The module of Triton kernels, if it is there and supports these tensors."""
    if tensors[0].is_cuda or os.environ.get('TRITON_INTERPRET') == '1':
        module = _import(name)
        if module is not None and module.supports(*tensors):
            return module
    return None


@functools.cache
def _import(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(f'mmrobust.ops.{name}')
    except ImportError:
        return None
