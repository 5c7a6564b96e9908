"""Token-aware average pooling on CUDA: each output read once, neighbours from the cache."""
import torch
import triton
import triton.language as tl
from torch import Tensor

POSITIONS, CHANNELS = 16, 64  # tile of one program


@triton.jit
def _box_sum(X, Weight, row, column, inside, channels, C, H, W, x_c, x_h, x_w, w_h, w_w,
             dilation: tl.constexpr, WEIGHTED: tl.constexpr):
    """Sum of the 3x3 neighbours, each times its weight or not, (POSITIONS, CHANNELS)."""
    total = tl.zeros([row.shape[0], channels.shape[0]], tl.float32)
    for i in tl.static_range(-1, 2):
        for j in tl.static_range(-1, 2):
            y = row + i * dilation
            x = column + j * dilation
            there = inside & (y >= 0) & (y < H) & (x >= 0) & (x < W)
            pointers = X + (y * x_h + x * x_w)[:, None] + channels[None, :] * x_c
            value = tl.load(pointers, mask=there[:, None] & (channels[None, :] < C), other=0.)
            value = value.to(tl.float32)
            if WEIGHTED:
                weight = tl.load(Weight + y * w_h + x * w_w, mask=there, other=0.)
                value *= weight.to(tl.float32)[:, None]
            total += value
    return total


@triton.jit
def _pool(X, Weights, Out, C, H, W, x_b, x_c, x_h, x_w, w_b, w_k, w_h, w_w, o_b, o_c, o_h, o_w,
          K: tl.constexpr, ADJOINT: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr):
    """sum_k w_k P_k(x), or the gradient sum_k P_k(w_k x)."""
    b = tl.program_id(2).to(tl.int64)
    position = tl.program_id(0) * BP + tl.arange(0, BP)
    channels = tl.program_id(1) * BC + tl.arange(0, BC)
    row, column = position // W, position % W
    inside = position < H * W
    X += b * x_b
    Weights += b * w_b
    mask = inside[:, None] & (channels[None, :] < C)
    here = row * w_h + column * w_w
    x = tl.load(X + (row * x_h + column * x_w)[:, None] + channels[None, :] * x_c, mask=mask,
                other=0.).to(tl.float32)
    total = x * tl.load(Weights + here, mask=inside, other=0.).to(tl.float32)[:, None]
    for k in tl.static_range(1, K):
        box = _box_sum(X, Weights + k * w_k, row, column, inside, channels, C, H, W, x_c, x_h,
                       x_w, w_h, w_w, k, ADJOINT) * (1 / 9)
        if not ADJOINT:
            weight = tl.load(Weights + k * w_k + here, mask=inside, other=0.)
            box *= weight.to(tl.float32)[:, None]
        total += box
    pointers = Out + b * o_b + (row * o_h + column * o_w)[:, None] + channels[None, :] * o_c
    tl.store(pointers, total.to(Out.dtype.element_ty), mask=mask)


@triton.jit
def _grad_weights(X, Grad, Out, C, H, W, x_b, x_c, x_h, x_w, g_b, g_c, g_h, g_w, o_b, o_k, o_h,
                  o_w, K: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr):
    """<grad, P_k(x)> over the channels, for every position and branch."""
    b = tl.program_id(1).to(tl.int64)
    position = tl.program_id(0) * BP + tl.arange(0, BP)
    row, column = position // W, position % W
    inside = position < H * W
    X += b * x_b
    Grad += b * g_b
    for k in tl.static_range(K):
        product = tl.zeros([BP], tl.float32)
        for start in range(0, C, BC):
            channels = start + tl.arange(0, BC)
            mask = inside[:, None] & (channels[None, :] < C)
            grad = tl.load(Grad + (row * g_h + column * g_w)[:, None] + channels[None, :] * g_c,
                           mask=mask, other=0.).to(tl.float32)
            if k == 0:
                mean = tl.load(X + (row * x_h + column * x_w)[:, None] + channels[None, :] * x_c,
                               mask=mask, other=0.).to(tl.float32)
            else:
                mean = _box_sum(X, X, row, column, inside, channels, C, H, W, x_c, x_h, x_w, 0, 0,
                                k, False) * (1 / 9)
            product += tl.sum(grad * mean, 1)
        tl.store(Out + b * o_b + k * o_k + row * o_h + column * o_w,
                 product.to(Out.dtype.element_ty), mask=inside)


def supports(x: Tensor) -> bool:
    """Whether the kernels can do this; the interpreter runs them on the CPU."""
    return x.dtype in (torch.float32, torch.float16, torch.bfloat16) and x.numel() > 0


def _launch_pool(x: Tensor, weights: Tensor, out: Tensor, adjoint: bool) -> Tensor:
    B, C, H, W = x.shape
    _pool[triton.cdiv(H * W, POSITIONS), triton.cdiv(C, CHANNELS), B](
        x, weights, out, C, H, W, *x.stride(), *weights.stride(), *out.stride(),
        K=weights.shape[1], ADJOINT=adjoint, BP=POSITIONS, BC=CHANNELS)
    return out


def forward(x: Tensor, weights: Tensor) -> Tensor:
    return _launch_pool(x, weights, torch.empty_like(x), adjoint=False)


def backward(x: Tensor, weights: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    grad_x = _launch_pool(grad, weights, torch.empty_like(x), adjoint=True)
    grad_weights = torch.empty_like(weights)
    B, C, H, W = x.shape
    _grad_weights[triton.cdiv(H * W, POSITIONS), B](
        x, grad, grad_weights, C, H, W, *x.stride(), *grad.stride(), *grad_weights.stride(),
        K=weights.shape[1], BP=POSITIONS, BC=CHANNELS)
    return grad_x, grad_weights
