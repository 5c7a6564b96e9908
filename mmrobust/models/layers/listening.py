"""Listening to the self-attention of a running model, without changing the model.

Every self-attention of mmrobust computes its output with :func:`attend`. Normally that is plain
scaled dot-product attention. While a listener is active, :func:`attend` hands it the queries,
keys and values instead; the listener returns the output and keeps whatever it came for: the
statistics of the diversification loss, an attention map, an attack's gradient. Nothing is stored
on modules, and nothing is computed while nobody listens.
"""
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

# A plain global rather than a context variable: torch.compile can guard on it.
_listener: 'AttentionListener | None' = None


class AttentionListener(Protocol):
    """What :func:`listening` accepts."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, scale: float,
               logit_mask: Tensor | None) -> Tensor:
        """Attention output (B, h, Nq, dv) of queries (B, h, Nq, d), keys and values."""

    def silent(self) -> 'AttentionListener':
        """A listener that computes the same and keeps nothing.

        Activation checkpointing runs a layer again in backward: what it computes must be the
        same, what it reports was reported already.
        """


@contextmanager
def listening(listener: AttentionListener | None) -> Iterator[None]:
    """Let ``listener`` compute every :func:`attend` within the context; ``None`` for nobody."""
    global _listener
    outer, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = outer


def current_listener() -> AttentionListener | None:
    """The active listener, if any."""
    return _listener


def attend(q: Tensor, k: Tensor, v: Tensor, *, scale: float | None = None,
           logit_mask: Tensor | None = None) -> Tensor:
    """Multi-head attention that an active listener takes part in.

    Args:
        q (Tensor): Queries (B, h, Nq, d).
        k (Tensor): Keys (B, h, Nk, d).
        v (Tensor): Values (B, h, Nk, dv).
        scale (float, optional): Factor of the logits. Defaults to d ** -0.5.
        logit_mask (Tensor, optional): (h, Nq, Nk), multiplies the scaled logits before the
            softmax (RVT's position-aware attention). Defaults to None.

    Returns:
        Tensor: (B, h, Nq, dv).
    """
    if scale is None:
        scale = q.shape[-1] ** -0.5
    if _listener is not None:
        return _listener.attend(q, k, v, scale=scale, logit_mask=logit_mask)
    if logit_mask is None:
        return F.scaled_dot_product_attention(q, k, v, scale=scale)
    logits = torch.matmul(q * scale, k.transpose(-2, -1)) * logit_mask
    return torch.matmul(logits.softmax(dim=-1), v)
