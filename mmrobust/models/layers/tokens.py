"""Tokens and maps: two views of the same memory."""
from torch import Tensor


def to_tokens(x: Tensor) -> Tensor:
    """Map (B, C, H, W) to row-major tokens (B, H * W, C); free of copies if channels-last."""
    return x.flatten(2).transpose(1, 2)


def to_map(x: Tensor, hw: tuple[int, int]) -> Tensor:
    """Tokens (B, H * W, C) to a channels-last map (B, C, H, W); free of copies."""
    batch, _, channels = x.shape
    return x.transpose(1, 2).view(batch, channels, *hw)


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, N, C) to (B, h, N, C / h), a view."""
    batch, tokens, _ = x.shape
    return x.view(batch, tokens, num_heads, -1).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, h, N, c) to (B, N, h * c)."""
    return x.transpose(1, 2).flatten(2)
