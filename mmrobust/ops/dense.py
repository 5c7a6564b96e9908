"""The same quantities written with whole matrices: the definition that the fast versions match."""
import torch
import torch.nn.functional as F
from torch import Tensor


def dense_diverse_attention(
        q: Tensor, k: Tensor, v: Tensor, *, threshold: float, scale: float | None = None,
        logit_mask: Tensor | None = None, column_threshold: float | None = None,
        strict: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Reference for :func:`mmrobust.ops.diverse_attention`; keeps (B, h, Nq, Nk) matrices."""
    num_keys = k.shape[-2]
    scale = q.shape[-1]**-0.5 if scale is None else scale
    logits = scale * q @ k.transpose(-2, -1)
    if logit_mask is not None:
        logits = logits * logit_mask
    attention = logits.softmax(-1)
    mean = attention.mean(1)  # (B, Nq, Nk)
    if mean.dtype in (torch.float16, torch.bfloat16):
        mean = mean.float()

    def keep(per_row: float) -> Tensor:
        level = per_row / num_keys
        return mean * (mean > level if strict else mean >= level)

    kept = keep(threshold)
    column = kept if column_threshold is None else keep(column_threshold)
    squared = kept.square().sum(-1, keepdim=True)
    norm = torch.where(squared > 0, squared, 1).sqrt()  # no NaN for rows without an entry
    return attention @ v, column.sum(-2), (kept / norm).sum(-2)


def dense_token_aware_avg_pool(x: Tensor, weights: Tensor) -> Tensor:
    """Reference for :func:`mmrobust.ops.token_aware_avg_pool`: every branch unfolded."""
    B, C, H, W = x.shape
    out = weights[:, :1] * x
    for k in range(1, weights.shape[1]):
        windows = F.unfold(x, 3, dilation=k, padding=k)  # (B, C * 9, H * W)
        out = out + weights[:, k:k + 1] * windows.view(B, C, 9, H, W).mean(2)
    return out
