"""Mixed precision where there is no GPU."""
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.runner.amp import autocast
from torch import nn


@OPTIM_WRAPPERS.register_module(force=True)
class CPUAmpOptimWrapper(OptimWrapper):
    """bfloat16 autocast on the CPU, which MMEngine's ``AmpOptimWrapper`` refuses.

    bfloat16 has the range of float32, so nothing is scaled.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with super().optim_context(model), autocast('cpu', dtype=torch.bfloat16):
            yield
