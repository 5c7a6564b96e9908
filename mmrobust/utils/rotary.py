"""The periods of rotary embeddings, which the backbone and the conversion of its weights share."""
import torch
from torch import Tensor


def rope_periods(head_dim: int, base: float) -> Tensor:
    """The periods (head_dim / 4,) of a rotary embedding, from 1 on."""
    return base ** (torch.arange(head_dim // 4, dtype=torch.float32) * 4 / head_dim)


def rope_base(periods: Tensor) -> float:
    """The base of periods (d / 4,), to three digits; of a single period, 100."""
    count = len(periods)
    base = float(periods[-1].double() ** (count / (count - 1))) if count > 1 else 100.
    return float(f'{base:.3g}')
