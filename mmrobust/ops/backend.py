"""Which code computes an operation, and in which precision, with torch 2.1 to the newest."""
import functools
import importlib
import os
from types import ModuleType

import torch
from torch import Tensor

try:
    from torch.compiler import is_compiling  # from torch 2.3 on
except ImportError:
    from torch._dynamo.external_utils import is_compiling

__all__ = ['INTERPRETED', 'autocast_dtype', 'is_compiling', 'is_recorded', 'statistics_dtype',
           'triton_module']

# whether Triton's interpreter runs its kernels on the CPU; Triton reads it once as well
INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'
OLDEST_TRITON = (3, 1)  # of torch 2.5; earlier ones lack `input_precision` and a full interpreter


def is_recorded() -> bool:
    """Whether operations are being written down, by a compiler or an exporter: plain ones then."""
    return is_compiling() or torch.jit.is_tracing()


def autocast_dtype(device: str) -> torch.dtype | None:
    """The type that autocast computes in on this kind of device; None where it is off."""
    if hasattr(torch, 'get_autocast_dtype'):  # from torch 2.4 on
        return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    if device == 'cpu':
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
    return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None


def statistics_dtype(dtype: torch.dtype) -> torch.dtype:
    """Sums over many tokens are formed in float32 or better."""
    return torch.promote_types(dtype, torch.float32)


def triton_module(name: str, *tensors: Tensor) -> ModuleType | None:
    """The module of Triton kernels, if it is there and supports these tensors."""
    if tensors[0].is_cuda or INTERPRETED:
        module = _import(name)
        if module is not None and module.supports(*tensors):
            return module
    return None


@torch.compiler.assume_constant_result
@functools.cache
def _import(name: str) -> ModuleType | None:
    try:
        import triton
    except ImportError:
        return None
    if tuple(map(int, triton.__version__.split('.')[:2])) < OLDEST_TRITON:
        return None
    return importlib.import_module(f'mmrobust.ops.{name}')
