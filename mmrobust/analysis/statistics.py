"""Numbers that describe attention: how alike heads are, how stable, how concentrated.

Every similarity of maps is the cosine between whole (Nq x Nk) maps, taken as vectors.
"""
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from mmrobust.models.losses.attention_diversification import (
    AttentionDiversificationLoss,
    AttentionStatistics,
    DiversificationListener,
)

from .attention import AttentionMaps

STATISTICS = {
    'head_similarity': 'cosine between heads',
    'adl': 'diversification loss',
    'row_entropy': 'entropy of a row (nats)',
    'top_share': 'share of the top 10 % of tokens',
    'effective_tokens': 'effective number of attended tokens',
    'diagonality': 'share of the own token',
}
"""Names of :func:`attention_statistics` to what figures call them."""


def attention_statistics(maps: AttentionMaps, tau: float = 2., top: float = 0.1
                         ) -> dict[str, Tensor]:
    """All statistics of one layer in one pass over its rows.

    Args:
        maps (AttentionMaps): Attention of B images.
        tau (float): Threshold of the diversification loss, in units of the uniform attention.
        top (float): Which part of the tokens counts as the top ones.

    Returns:
        dict[str, Tensor]: Each (B,). ``head_similarity``: mean cosine between any two heads
        (NaN of a single head). ``adl``: the attention diversification loss ("Robustifying Token
        Attention", equation 3). ``row_entropy``: mean over queries and heads, in nats. Of the
        attention that each token receives, over heads and queries: ``top_share``, what goes to
        the top tokens, and ``effective_tokens``, the exponential of its entropy.
        ``diagonality``: the attention of a token to itself (NaN where keys are no tokens).
    """
    images = maps.images
    count, heads, queries, keys = maps.shape
    per_image = count // images
    gram, columns, entropy, own, sums = 0., 0., 0., 0., [0., 0.]
    records: list[AttentionStatistics] = []
    listener = DiversificationListener(tau, official=False, per_head=False, records=records)
    for rows, block in maps.blocks():  # (maps, h, rows, Nk)
        flat = block.flatten(2)
        gram = gram + _per_image(flat @ flat.mT, images).sum(1)  # (B, h, h)
        columns = columns + block.sum((1, 2))  # (maps, Nk)
        entropy = entropy + _per_image(torch.special.entr(block).sum((1, 2, 3)), images).sum(1)
        if queries == keys:
            diagonal = block[..., rows].diagonal(dim1=-2, dim2=-1)
            own = own + _per_image(diagonal.sum((1, 2)), images).sum(1)
        listener.observe(block)
        sums = [a + b for a, b in zip(sums, records.pop()[:2], strict=True)]
    total_rows = per_image * heads * queries
    received = _per_image(columns, images).flatten(1) / total_rows  # (B, tokens), sum 1
    loss = AttentionDiversificationLoss(tau).similarity(AttentionStatistics(*sums, queries))
    unknown = columns.new_full((images,), math.nan)
    return dict(
        head_similarity=mean_off_diagonal(_normalised(gram)),
        adl=_per_image(loss, images).mean((1, 2)),
        row_entropy=entropy / total_rows,
        top_share=top_share(received, top),
        effective_tokens=effective_tokens(received),
        diagonality=own / total_rows if queries == keys else unknown)


def map_similarity(first: AttentionMaps, second: AttentionMaps) -> tuple[Tensor, Tensor]:
    """Cosine between two attention maps of the same layer, such as clean and corrupted.

    Returns:
        tuple[Tensor, Tensor]: Of every head (B, h), and of the maps averaged over heads (B,).

    Raises:
        ValueError: If they differ in shape.
    """
    if first.shape != second.shape or first.images != second.images:
        raise ValueError(f'attention maps of shape {first.shape} and {second.shape} cannot be '
                         'compared: the images must have one size')
    products = 0.
    for a, b in _pairs(first, second):
        a, b = (torch.cat([x, x.mean(1, keepdim=True)], 1).flatten(2) for x in (a, b))
        parts = torch.stack([(a * b).sum(-1), (a * a).sum(-1), (b * b).sum(-1)])
        products = products + parts.unflatten(1, (first.images, -1)).sum(2)  # (3, B, h + 1)
    cosine = products[0] / (products[1] * products[2]).sqrt()
    return cosine[:, :-1], cosine[:, -1]


def top_share(received: Tensor, top: float = 0.1) -> Tensor:
    """Share (B,) of the attention (B, N) that goes to the best attended part of the tokens."""
    count = max(1, round(top * received.shape[-1]))
    return received.topk(count, dim=-1).values.sum(-1) / received.sum(-1)


def effective_tokens(received: Tensor) -> Tensor:
    """exp(entropy) (B,) of a distribution (B, N): N if uniform, 1 if all is on one token."""
    return torch.special.entr(received / received.sum(-1, keepdim=True)).sum(-1).exp()


def mean_off_diagonal(matrix: Tensor) -> Tensor:
    """Mean (B,) of (B, h, h) without its diagonals; NaN for h = 1."""
    heads = matrix.shape[-1]
    total = matrix.sum((-2, -1)) - matrix.diagonal(dim1=-2, dim2=-1).sum(-1)
    return total / (heads * (heads - 1)) if heads > 1 else torch.full_like(total, math.nan)


def _pairs(first: AttentionMaps, second: AttentionMaps) -> Iterator[tuple[Tensor, Tensor]]:
    for (_, a), (_, b) in zip(first.blocks(), second.blocks(), strict=True):
        yield a, b


def _per_image(x: Tensor, images: int) -> Tensor:
    """(B * W, ...) to (B, W, ...)."""
    return x.unflatten(0, (images, -1))


def _normalised(gram: Tensor) -> Tensor:
    norm = gram.diagonal(dim1=-2, dim2=-1).sqrt()
    return gram / (norm[..., :, None] * norm[..., None, :])
