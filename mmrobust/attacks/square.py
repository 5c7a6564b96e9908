"""Square: random search without gradients (Andriushchenko et al., ECCV 2020)."""
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .norms import TINY, lengths, where

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
                  queries: int, generators: Sequence[torch.Generator], norm: str = 'linf'
                  ) -> tuple[Tensor, Tensor]:
    """Lower every image's margin by squares of colours at the border of the ball.

    Args:
        images (Tensor): (B, C, H, W) in [0, 1].
        margins (Callable): Images to (B,), the logit of the true class less the highest other; an
            image below zero is no longer changed.
        radius (float): Of the ball.
        queries (int): Most predictions of each image.
        generators (Sequence[torch.Generator]): A random stream for each image.
        norm (str): ``'linf'`` or ``'l2'``.

    Returns:
        tuple[Tensor, Tensor]: The images and their margins (B,).
    """
    search = (Stripes if norm == 'linf' else Bumps)(images, radius)
    # all draws of an image come from its own stream, whatever the others do
    draws = torch.stack([torch.rand(queries, search.draws, generator=g) for g in generators])
    current = search.start(torch.stack([torch.rand(search.first, generator=g)
                                        for g in generators]).to(images))
    lowest = margins(current)
    for query in range(1, queries):
        if not (lowest >= 0).any():
            break
        side = square_side(query, queries, *images.shape[2:])
        proposed = search.propose(current, draws[:, query].to(images), side)
        found = margins(proposed)
        lower = (found < lowest) & (lowest >= 0)
        current, lowest = where(lower, proposed, current), where(lower, found, lowest)
    return current, lowest


class Stripes:
    """In the L-infinity ball: vertical stripes, then squares of one colour.

    Args:
        images (Tensor): (B, C, H, W), centres of the balls.
        radius (float): Of the balls.
    """

    def __init__(self, images: Tensor, radius: float) -> None:
        self.images = images
        self.radius = radius
        channels, self.height, self.width = images.shape[1:]
        self.draws = 2 + channels
        self.first = channels, 1, self.width
        self.rows = torch.arange(self.height, device=images.device).view(1, 1, -1, 1)
        self.columns = torch.arange(self.width, device=images.device).view(1, 1, 1, -1)

    def start(self, draws: Tensor) -> Tensor:
        return (self.images + self.radius * (2 * draws - 1).sign()).clamp(0, 1)

    def place(self, draws: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """Rows and columns counted from a square's corner, and which pixels (B, 1, H, W) it has."""
        top, left = ((draws[:, i] * (size - side + 1)).long().view(-1, 1, 1, 1)
                     for i, size in enumerate((self.height, self.width)))
        down, right = self.rows - top, self.columns - left
        return down, right, (down >= 0) & (down < side) & (right >= 0) & (right < side)

    def propose(self, current: Tensor, draws: Tensor, side: int) -> Tensor:
        inside = self.place(draws, side)[2]
        colour = (2 * draws[:, 2:] - 1).sign()[..., None, None] * self.radius
        return torch.where(inside, self.images + colour, current).clamp(0, 1)


class Bumps(Stripes):
    """In the L2 ball: a mosaic of bumps; then a bump is added in one window, and another window
    gives what it is paid with (algorithm 3 of the paper).

    Args:
        images, radius: See :class:`Stripes`.
    """

    def __init__(self, images: Tensor, radius: float) -> None:
        super().__init__(images, radius)
        self.draws = 5 + images.shape[1]  # two corners, direction, signs
        self.tile = max(min(self.height, self.width) // 5, 1)
        self.first = (1 + images.shape[1], self.height // self.tile, self.width // self.tile)

    def start(self, draws: Tensor) -> Tensor:
        wave = bump(self.tile).to(self.images)
        tiles = torch.where(draws[:, :1, :, None, :, None] < .5, wave[:, None], wave.T[:, None])
        signs = (2 * draws[:, 1:] - 1).sign()[:, :, :, None, :, None]
        mosaic = (signs * tiles).flatten(4, 5).flatten(2, 3)
        offset = torch.zeros_like(self.images)
        top, left = ((size - own) // 2 for size, own in zip(
            self.images.shape[2:], mosaic.shape[2:], strict=True))
        offset[:, :, top:top + mosaic.shape[2], left:left + mosaic.shape[3]] = mosaic
        return self._scaled(offset)

    def propose(self, current: Tensor, draws: Tensor, side: int) -> Tensor:
        side = min(max(side, 3) | 1, (min(self.height, self.width) - 1) | 1)
        offset = current - self.images
        down, right, inside = self.place(draws, side)
        giving = self.place(draws[:, 2:], side)[2]
        wave = bump(side).to(offset)
        down, right = (at.clamp(0, side - 1).expand(inside.shape) for at in (down, right))
        shape = torch.where(draws[:, 4].view(-1, 1, 1, 1) < .5, wave[down, right],
                            wave[right, down])
        signs = (2 * draws[:, 5:] - 1).sign()[..., None, None]
        new = _unit(signs * shape * inside + _unit(offset * inside))
        unused = (self.radius ** 2 - lengths(offset) ** 2).clamp_min(0) / offset.shape[1]
        own = (offset * (inside | giving)).square().sum((2, 3), keepdim=True)
        return self._scaled(torch.where(inside, new * (own + unused).sqrt(),
                                        offset * ~giving))

    def _scaled(self, offset: Tensor) -> Tensor:
        """The images with an offset of the radius' length."""
        return (self.images + offset * (self.radius / lengths(offset).clamp_min(TINY))).clamp(0, 1)


def bump(side: int) -> Tensor:
    """Two opposite hills beside each other, (side, side) of length 1."""
    def hill(height: int, width: int) -> Tensor:
        # one over the squares of 1, 2, ..., summed from the distance to the middle outwards
        far = torch.maximum((torch.arange(height) - height // 2).abs()[:, None],
                            (torch.arange(width) - width // 2).abs())
        parts = 1 / torch.arange(1., max(height, width) // 2 + 2) ** 2
        return parts.flip(0).cumsum(0).flip(0)[far]

    wave = torch.cat([hill(side // 2, side), -hill(side - side // 2, side)])
    return wave / wave.norm()


def _unit(offset: Tensor) -> Tensor:
    """Every channel (B, C, H, W) with length 1, or zero."""
    return offset / offset.square().sum((2, 3), keepdim=True).sqrt().clamp_min(TINY)
