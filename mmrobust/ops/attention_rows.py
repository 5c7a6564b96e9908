"""Rows of attention as matrices, and their statistics: what the fast versions agree with."""
import torch
from torch import Tensor


def attention_rows(q: Tensor, k: Tensor, *, scale: float, logit_mask: Tensor | None = None,
                   bias: Tensor | None = None) -> Tensor:
    """Softmax attention of some queries.

    Args:
        q: Queries (..., R, d).
        k: Keys (..., Nk, d).
        scale: Factor of the logits.
        logit_mask: Multiplies the logits; broadcasts to (..., R, Nk).
        bias: Is added to them; broadcasts likewise.

    Returns:
        Attention (..., R, Nk).
    """
    logits = q * scale @ k.mT
    if logit_mask is not None:
        logits = logits * logit_mask
    if bias is not None:
        logits = logits + bias
    return logits.softmax(dim=-1)


def column_statistics(attention: Tensor, *, threshold: float,
                      column_threshold: float | None = None, strict: bool = False
                      ) -> tuple[Tensor, Tensor]:
    """The two statistics of :func:`mmrobust.ops.diverse_attention` of given maps.

    Args:
        attention: Maps (..., Nq, Nk).
        threshold: Entries below ``threshold / Nk`` count as 0.
        column_threshold: Another threshold for the first statistic only.
        strict: Whether an entry that equals the threshold is dropped.

    Returns:
        Sum of the rows and of the normalised rows, each (..., Nk).
    """
    def keep(per_row: float) -> Tensor:
        level = per_row / attention.shape[-1]
        return attention * (attention > level if strict else attention >= level)

    kept = keep(threshold)
    column = kept if column_threshold is None else keep(column_threshold)
    squared = kept.square().sum(-1, keepdim=True)
    norm = torch.where(squared > 0, squared, 1.).sqrt()  # no NaN for rows without an entry
    return column.sum(-2), (kept / norm).sum(-2)
