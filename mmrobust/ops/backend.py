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

__all__ = ['INTERPRETED', 'autocast_dtype', 'has_tensor_cores', 'import_kernels', 'is_compiling',
           'is_recorded', 'runs_triton', 'statistics_dtype', 'triton_module']

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
    if runs_triton(tensors[0]):
        module = import_kernels(name)
        if module.supports(*tensors):
            return module
    return None


def import_kernels(name: str) -> ModuleType:
    """A module of kernels, which imports Triton."""
    return importlib.import_module(f'mmrobust.ops.{name}')


def runs_triton(tensor: Tensor) -> bool:
    """Whether Triton can compute where this tensor is."""
    return (tensor.is_cuda or INTERPRETED) and _has_triton()


@torch.compiler.assume_constant_result
def _has_triton() -> bool:
    return _triton_version() >= OLDEST_TRITON


@functools.cache
def _triton_version() -> tuple[int, ...]:
    try:
        import triton
    except ImportError:
        return ()
    return tuple(map(int, triton.__version__.split('.')[:2]))


@torch.compiler.assume_constant_result
def has_tensor_cores(index: int | None) -> bool:
    """Whether a CUDA device is an Ampere or a later one; ROCm is another matter."""
    return torch.version.hip is None and torch.cuda.get_device_capability(index) >= (8, 0)
