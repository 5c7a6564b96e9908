"""What our fast operations compute, with whole matrices: for tests and benchmarks."""
import torch
import torch.nn.functional as F
from torch import Tensor

from mmrobust.ops import attention_rows, column_statistics


def dense_diverse_attention(
        q: Tensor, k: Tensor, v: Tensor, *, threshold: float, scale: float | None = None,
        logit_mask: Tensor | None = None, column_threshold: float | None = None,
        strict: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Reference for :func:`mmrobust.ops.diverse_attention`; keeps (B, h, Nq, Nk) matrices."""
    scale = q.shape[-1]**-0.5 if scale is None else scale
    attention = attention_rows(q, k, scale=scale, logit_mask=logit_mask)
    mean = attention.mean(1)  # (B, Nq, Nk)
    if mean.dtype in (torch.float16, torch.bfloat16):
        mean = mean.float()
    return attention @ v, *column_statistics(
        mean, threshold=threshold, column_threshold=column_threshold, strict=strict)


def dense_token_aware_avg_pool(x: Tensor, weights: Tensor) -> Tensor:
    """Reference for :func:`mmrobust.ops.token_aware_avg_pool`: every branch unfolded."""
    B, C, H, W = x.shape
    out = weights[:, :1] * x
    for k in range(1, weights.shape[1]):
        windows = F.unfold(x, 3, dilation=k, padding=k)  # (B, C * 9, H * W)
        out = out + weights[:, k:k + 1] * windows.view(B, C, 9, H, W).mean(2)
    return out
