"""Square: random search without gradients in an L-infinity ball (Andriushchenko, ECCV 2020)."""
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .norms import where

# share of the pixels that a square covers, halved after so many of 10,000 queries
FIRST_SHARE = 0.8
HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def square_side(query: int, queries: int, height: int, width: int) -> int:
    """Side in pixels of the squares of a query, as the schedule of the paper has it."""
    place = int(query / queries * 10_000)
    share = FIRST_SHARE / 2 ** sum(place > bound for bound in HALVED_AFTER)
    return max(1, min(round((share * height * width) ** .5), height - 1, width - 1))


@torch.no_grad()
def square_attack(images: Tensor, margins: Callable[[Tensor], Tensor], *, radius: float,
                  queries: int, generators: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
    """Lower every image's margin by squares of colours at the border of the ball.

    Args:
        images (Tensor): (B, C, H, W) in [0, 1].
        margins (Callable): Images to (B,), the logit of the true class less the highest other; an
            image below zero is no longer changed.
        radius (float): Of the ball.
        queries (int): Most predictions of each image.
        generators (Sequence[torch.Generator]): A random stream for each image.

    Returns:
        tuple[Tensor, Tensor]: The images and their margins (B,).
    """
    channels, height, width = images.shape[1:]
    # all draws of an image come from its own stream, whatever the others do
    draws = torch.stack([torch.rand(queries, 2 + channels, generator=g) for g in generators])
    stripes = torch.stack([torch.rand(channels, 1, width, generator=g) for g in generators])
    current = (images + radius * (2 * stripes.to(images) - 1).sign()).clamp(0, 1)
    lowest = margins(current)
    rows = torch.arange(height, device=images.device).view(1, 1, -1, 1)
    columns = torch.arange(width, device=images.device).view(1, 1, 1, -1)
    for query in range(1, queries):
        if not (lowest >= 0).any():
            break
        side = square_side(query, queries, height, width)
        own = draws[:, query].to(images)
        top, left = ((own[:, i] * (size - side + 1)).long().view(-1, 1, 1, 1)
                     for i, size in enumerate((height, width)))
        inside = ((rows >= top) & (rows < top + side) & (columns >= left)
                  & (columns < left + side))
        colour = (2 * own[:, 2:] - 1).sign()[..., None, None] * radius
        proposed = torch.where(inside, images + colour, current).clamp(0, 1)
        found = margins(proposed)
        lower = (found < lowest) & (lowest >= 0)
        current, lowest = where(lower, proposed, current), where(lower, found, lowest)
    return current, lowest
