"""APGD: projected gradient ascent that finds its own step size (Croce and Hein, ICML 2020)."""
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .norms import project, steepest, where

MOMENTUM = 0.75
Judge = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
"""Images (B, C, H, W) to losses (B,), gradients (B, C, H, W) and scores (B,), the lower the worse
for the model; no image influences another."""


class Found(NamedTuple):
    """What an attack found for every image: the highest loss, and the lowest score."""
    images: Tensor
    losses: Tensor
    worst_images: Tensor
    worst_scores: Tensor


def auto_pgd(images: Tensor, judge: Judge, *, radius: float, norm: str, steps: int, start: Tensor,
             rho: float = 0.75) -> Found:
    """Ascend with momentum; halve an image's step where it oscillates or does not improve.

    The first step is twice the radius. At checkpoints, which come closer and closer, an image
    whose loss rose in at most ``rho`` of the steps since the last one, or whose best loss did not
    improve since without the step being halved, goes on from its best place with half the step.

    Args:
        images (Tensor): Centres of the balls, (B, C, H, W) in [0, 1].
        judge (Callable): See :data:`Judge`.
        radius (float): Of the balls, for images of [0, 1].
        norm (str): ``'linf'`` or ``'l2'``.
        steps (int): Number of gradient steps.
        start (Tensor): First iterates.
        rho (float): Share of rising steps that is enough.
    """
    current = before = project(start, images, radius, norm)
    losses, gradient, scores = judge(current)
    best, best_losses, best_gradient = current, losses, gradient
    worst, worst_scores, worst_losses = current, scores, losses
    step = torch.full_like(images[:, :1, :1, :1], 2 * radius)
    window, least, shrink = (max(int(share * steps), 1) for share in (.22, .06, .03))
    taken, rises, previous = 0, torch.zeros_like(losses), losses
    best_at_check, halved = losses, torch.ones_like(losses, dtype=torch.bool)
    for i in range(steps):
        share = MOMENTUM if i else 1.
        ahead = project(current + step * steepest(gradient, norm), images, radius, norm)
        ahead = project(current + share * (ahead - current) + (1 - share) * (current - before),
                        images, radius, norm)
        before, current = current, ahead
        losses, gradient, scores = judge(current)
        rises, previous = rises + (losses > previous), losses
        higher = losses > best_losses
        # of equal scores the higher loss: no rounding brings it back over the boundary
        lower = (scores < worst_scores) | (scores == worst_scores) & (losses > worst_losses)
        worst, worst_scores = where(lower, current, worst), where(lower, scores, worst_scores)
        worst_losses = where(lower, losses, worst_losses)
        best, best_gradient = where(higher, current, best), where(higher, gradient, best_gradient)
        best_losses = where(higher, losses, best_losses)
        taken += 1
        if taken == window:
            stuck = (rises <= rho * window) | (~halved & (best_losses <= best_at_check))
            step = where(stuck, step / 2, step)
            current, gradient = where(stuck, best, current), where(stuck, best_gradient, gradient)
            best_at_check, halved = best_losses, stuck
            taken, rises, window = 0, torch.zeros_like(rises), max(window - shrink, least)
    return Found(best, best_losses, worst, worst_scores)


def shrinking_pgd(images: Tensor, judge: Judge, *, radius: float, norm: str, steps: int,
                  start: Tensor) -> Found:
    """APGD in balls that shrink to the radius, as SEA runs it (Croce et al., ECCV 2024).

    Three tenths of the steps in the ball of twice the radius, three in that of one and a half
    times, and the rest in the ball itself; each goes on from the highest loss of the one before.

    Args:
        images, judge, radius, norm, steps, start: See :func:`auto_pgd`.
    """
    found = None
    first = int(.3 * steps)
    for factor, part in ((2., first), (1.5, first), (1., steps - 2 * first)):
        if part:
            found = auto_pgd(images, judge, radius=factor * radius, norm=norm, steps=part,
                             start=start if found is None else found.images)
    return found
