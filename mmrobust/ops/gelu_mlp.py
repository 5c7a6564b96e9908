"""Linear, GELU, linear, in blocks of rows: the activated hidden rows are never kept."""
import torch
import torch.nn.functional as F
from torch import Tensor

from .backend import autocast_dtype, is_compiling

BLOCK_ROWS = 2048  # of the hidden rows, which stay in the cache between the two products


class _GeluMlp(torch.autograd.Function):

    @staticmethod
    def forward(ctx, x, weight1, bias1, weight2, bias2):
        hidden = torch.addmm(bias1, x, weight1.mT)
        out = x.new_empty(len(x), len(weight2))
        scratch = _scratch(hidden)
        for rows in _blocks(x):
            active = _gelu(hidden[rows], scratch)
            torch.addmm(bias2, active, weight2.mT, out=out[rows])
        ctx.save_for_backward(x, hidden, weight1, weight2)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        x, hidden, weight1, weight2 = ctx.saved_tensors
        grad = grad.contiguous()
        grad_x = torch.empty_like(x)
        grad_weight1, grad_weight2 = torch.zeros_like(weight1), torch.zeros_like(weight2)
        grad_bias1 = x.new_zeros(len(weight1))
        scratch = _scratch(hidden)
        for rows in _blocks(x):
            grad_weight2.addmm_(grad[rows].mT, _gelu(hidden[rows], scratch))
            grad_hidden = torch.mm(grad[rows], weight2, out=scratch[:len(grad[rows])])
            torch.ops.aten.gelu_backward.grad_input(grad_hidden, hidden[rows],
                                                    grad_input=grad_hidden)
            grad_weight1.addmm_(grad_hidden.mT, x[rows])
            grad_bias1 += grad_hidden.sum(0)
            torch.mm(grad_hidden, weight1, out=grad_x[rows])
        return grad_x, grad_weight1, grad_bias1, grad_weight2, grad.sum(0)


def gelu_mlp(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
    """``linear(gelu(linear(x)))``, which keeps the hidden map once, before its activation.

    Follows autocast. Other than float32 and float64 on a CPU are computed in one block, because
    sums over blocks would lose digits or, on a GPU, time.

    Args:
        x: Features (..., C).
        weight1: (D, C).
        bias1: (D,).
        weight2: (C', D).
        bias2: (C',).

    Returns:
        Features (..., C').
    """
    tensors = x, weight1, bias1, weight2, bias2
    device = x.device.type
    if device not in ('cpu', 'cuda') or is_compiling() or torch.jit.is_tracing():
        return F.linear(F.gelu(F.linear(*tensors[:3])), weight2, bias2)
    if (dtype := autocast_dtype(device)) is not None:
        tensors = [t.to(dtype) for t in tensors]
    with torch.autocast(device, enabled=False), torch.cuda.device_of(x):
        rows = tensors[0].flatten(0, -2)
        return _GeluMlp.apply(rows, *tensors[1:]).unflatten(0, x.shape[:-1])


def _gelu(rows: Tensor, scratch: Tensor) -> Tensor:
    return torch.ops.aten.gelu.out(rows, out=scratch[:len(rows)])


def _scratch(hidden: Tensor) -> Tensor:
    return hidden.new_empty(_step(hidden), hidden.shape[1])


def _step(x: Tensor) -> int:
    return min(BLOCK_ROWS, len(x)) if x.device.type == 'cpu' and x.dtype.itemsize >= 4 else len(x)


def _blocks(x: Tensor) -> list[slice]:
    return [slice(i, i + _step(x)) for i in range(0, len(x), max(1, _step(x)))]
