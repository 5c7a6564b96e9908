"""Listening to the self-attention of a running model, without changing the model.

Every self-attention of mmrobust computes its output with :func:`attend`. Normally that is plain
scaled dot-product attention. While a listener is active, :func:`attend` hands it the queries,
keys and values instead; the listener returns the output and keeps whatever it came for: the
statistics of the diversification loss, an attention map, an attack's gradient. Layers of a host
library that build the attention matrix anyway show it with :func:`observe`. Nothing is stored on
modules, and nothing is computed while nobody listens.
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

    def observe(self, attention: Tensor) -> None:
        """Take note of a matrix (B, h, Nq, Nk) that is computed and applied elsewhere."""

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
           logit_mask: Tensor | None = None, dropout_p: float = 0.) -> Tensor:
    """Multi-head attention that an active listener takes part in.

    Args:
        q (Tensor): Queries (B, h, Nq, d).
        k (Tensor): Keys (B, h, Nk, d).
        v (Tensor): Values (B, h, Nk, dv).
        scale (float, optional): Factor of the logits. Defaults to d ** -0.5.
        logit_mask (Tensor, optional): (h, Nq, Nk), multiplies the scaled logits before the
            softmax (RVT's position-aware attention). Defaults to None.
        dropout_p (float): Dropout of the attention weights. Defaults to 0.

    Returns:
        Tensor: (B, h, Nq, dv).

    Raises:
        ValueError: If somebody listens and there is attention dropout.
    """
    if _listener is None and logit_mask is None:
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout_p, scale=scale)
    if scale is None:
        scale = q.shape[-1] ** -0.5
    if _listener is not None:
        _refuse_dropout(dropout_p)
        return _listener.attend(q, k, v, scale=scale, logit_mask=logit_mask)
    logits = torch.matmul(q * scale, k.transpose(-2, -1)) * logit_mask
    return torch.matmul(F.dropout(logits.softmax(dim=-1), dropout_p), v)


def observe(attention: Tensor, dropout_p: float = 0.) -> None:
    """Show an attention matrix (B, h, Nq, Nk), before its dropout, to an active listener.

    Raises:
        ValueError: If somebody listens and there is attention dropout.
    """
    if _listener is not None:
        _refuse_dropout(dropout_p)
        _listener.observe(attention)


def _refuse_dropout(dropout_p: float) -> None:
    if dropout_p > 0:
        raise ValueError(
            f'attention dropout of {dropout_p} and something that listens to attention, such as '
            'AttentionDiversificationLoss, exclude each other: set the attn_drop of the backbone '
            'to 0, as all recipes do')
