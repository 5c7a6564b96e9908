"""Listening to the self-attention of a running model, without changing the model.

Every self-attention of mmrobust computes its output with :func:`attend`. Normally that is plain
scaled dot-product attention. While a listener is active, :func:`attend` hands it the queries,
keys and values instead; the listener returns the output and keeps whatever it came for: the
statistics of the diversification loss, an attention map, an attack's gradient. Layers of a host
library that build the attention matrix anyway show it with :func:`observe`. Both tell which layer
speaks; those whose every call goes through :func:`attend` say so by ``reports_attention = True``.
Several may listen, one inside another. Nothing is stored on modules, and nothing is computed
while nobody listens.
"""
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrobust.ops import attention_rows

# A plain global rather than a context variable: torch.compile can guard on it.
_listener: 'AttentionListener | None' = None


class AttentionListener(Protocol):
    """What :func:`listening` accepts."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, scale: float,
               logit_mask: Tensor | None, layer: nn.Module | None) -> Tensor | None:
        """Attention output (B, h, Nq, dv) of queries (B, h, Nq, d), keys and values.

        None leaves the computation to others.
        """

    def observe(self, attention: Tensor, layer: nn.Module | None) -> None:
        """Take note of a matrix (B, h, Nq, Nk) that is computed and applied elsewhere."""

    def silent(self) -> 'AttentionListener':
        """A listener that computes the same and keeps nothing.

        Activation checkpointing runs a layer again in backward: what it computes must be the
        same, what it reports was reported already.
        """


class _Both:
    """Two listeners as one; the output is that of the inner one, if it computes any."""

    def __init__(self, outer: AttentionListener, inner: AttentionListener):
        self.outer = outer
        self.inner = inner

    def attend(self, *args, **kwargs) -> Tensor | None:
        outputs = self.outer.attend(*args, **kwargs), self.inner.attend(*args, **kwargs)
        return outputs[0] if outputs[1] is None else outputs[1]

    def observe(self, *args) -> None:
        self.outer.observe(*args)
        self.inner.observe(*args)

    def silent(self) -> '_Both':
        return _Both(self.outer.silent(), self.inner.silent())


@contextmanager
def listening(listener: AttentionListener | None) -> Iterator[None]:
    """Let ``listener`` take part in every :func:`attend` within the context.

    Who listened before goes on listening. ``None`` is for nobody, not even them.
    """
    global _listener
    outer = _listener
    _listener = listener if outer is None or listener is None else _Both(outer, listener)
    try:
        yield
    finally:
        _listener = outer


def current_listener() -> AttentionListener | None:
    """The active listener, if any."""
    return _listener


def attend(q: Tensor, k: Tensor, v: Tensor, *, scale: float | None = None,
           logit_mask: Tensor | None = None, dropout_p: float = 0.,
           layer: nn.Module | None = None) -> Tensor:
    """Multi-head attention that an active listener takes part in.

    Args:
        q (Tensor): Queries (B, h, Nq, d).
        k (Tensor): Keys (B, h, Nk, d).
        v (Tensor): Values (B, h, Nk, dv).
        scale (float, optional): Factor of the logits. Defaults to d ** -0.5.
        logit_mask (Tensor, optional): (h, Nq, Nk), multiplies the scaled logits before the
            softmax (RVT's position-aware attention). Defaults to None.
        dropout_p (float): Dropout of the attention weights. Defaults to 0.
        layer (nn.Module, optional): Whose attention it is. Defaults to None.

    Returns:
        Tensor: (B, h, Nq, dv).

    Raises:
        ValueError: If somebody listens and there is attention dropout.
    """
    if _listener is not None:
        _refuse_dropout(dropout_p)
        out = _listener.attend(q, k, v, scale=_scale(q, scale), logit_mask=logit_mask, layer=layer)
        if out is not None:
            return out
    if logit_mask is None:
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout_p, scale=scale)
    attention = attention_rows(q, k, scale=_scale(q, scale), logit_mask=logit_mask)
    return torch.matmul(F.dropout(attention, dropout_p), v)


def observe(attention: Tensor, dropout_p: float = 0., layer: nn.Module | None = None) -> None:
    """Show an attention matrix (B, h, Nq, Nk), before its dropout, to an active listener.

    Raises:
        ValueError: If somebody listens and there is attention dropout.
    """
    if _listener is not None:
        _refuse_dropout(dropout_p)
        _listener.observe(attention, layer)


def _scale(q: Tensor, scale: float | None) -> float:
    return q.shape[-1] ** -0.5 if scale is None else scale


def _refuse_dropout(dropout_p: float) -> None:
    if dropout_p > 0:
        raise ValueError(
            f'attention dropout of {dropout_p} and something that listens to attention, such as '
            'AttentionDiversificationLoss, exclude each other: set the attn_drop of the backbone '
            'to 0, as all recipes do')
