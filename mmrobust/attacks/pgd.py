"""Projected gradient descent (Madry et al., ICLR 2018), FGSM, and their kin for segmenters."""
import math
from collections.abc import Callable
from typing import Any

import torch
from mmengine.registry import TASK_UTILS
from torch import Tensor, nn

from .norms import check_ball, project, start_offset, steepest, where
from .pixels import PIXEL_LOSSES
from .victim import Victim, check_number, input_gradient


def projected_gradient(images: Tensor, loss: Callable[[Tensor], Tensor], *,
                       radius: float | Tensor, step_size: float | Tensor, steps: int,
                       start: Tensor | None = None, low: float | Tensor = 0.,
                       high: float | Tensor = 1., norm: str = 'linf',
                       watch: Callable[[Tensor], Any] = lambda gradient: None) -> Tensor:
    """Ascend on a loss by steps along its gradient (L2) or the sign of it (L-infinity).

    Args:
        images (Tensor): Where the ball is centred, (B, C, H, W).
        loss (Callable): Images to a scalar, in which no image influences another's gradient.
        radius, step_size (float | Tensor): In the units of the images; a tensor (C, 1, 1) for
            normalised ones.
        steps (int): Number of steps.
        start (Tensor, optional): Offset of the first iterate. Defaults to none.
        low, high (float | Tensor): The valid range of the images.
        norm (str): ``'linf'``, or ``'l2'`` for images of [0, 1].
        watch (Callable): Is shown the gradient (B, C, H, W) of every step.

    Returns:
        Tensor: The last iterate. It lies in the ball and in the range.

    Raises:
        ValueError: If there is no gradient, or one that is not finite.
    """
    bottom = torch.maximum(images - radius, torch.as_tensor(low).to(images))
    top = torch.minimum(images + radius, torch.as_tensor(high).to(images))
    adversarial = images if start is None else (images + start).clamp(bottom, top)
    if norm == 'l2':
        adversarial = images if start is None else project(images + start, images, radius, norm)
    for _ in range(steps):
        adversarial = adversarial.detach().requires_grad_()
        with torch.enable_grad():
            gradient = input_gradient(loss(adversarial), adversarial)
        watch(gradient)
        adversarial = adversarial.detach() + step_size * steepest(gradient, norm)
        adversarial = (adversarial.clamp(bottom, top) if norm == 'linf' else
                       project(adversarial, images, radius, norm))
    return adversarial.detach()


@TASK_UTILS.register_module(force=True)
class PGD:
    """PGD attack on a test batch; with one step of the radius and no random start, FGSM.

    Args:
        radius (float): Of the ball, in images of [0, 1]. Defaults to 8/255.
        step_size (float): Defaults to 2/255.
        steps (int): Defaults to 5.
        random_start (bool): Start anywhere in the ball instead of at its centre.
            Defaults to True.
        seed (int): Selects another random start.
        loss (str): ``'ce'``; for segmenters also ``'segpgd'`` and ``'cospgd'``, which weigh the
            pixels, see :mod:`mmrobust.attacks.pixels`. Defaults to ``'ce'``.
        norm (str): Of the ball, ``'linf'`` or ``'l2'``. Defaults to ``'linf'``.
        restarts (int): From how many random starts; each image keeps what it fared worst with.
            Defaults to 1.

    Attributes:
        records (list[dict]): Of each image so far, its cross-entropy at the first and at the last
            of several steps.
        unmoved (list[bool]): Of each image so far, whether its gradient was exactly zero, so that
            only a random start changed it.

    Raises:
        ValueError: If radius, step size or number of steps is not positive, or too large.
    """

    def __init__(self, radius: float = 8 / 255, step_size: float = 2 / 255, steps: int = 5,
                 random_start: bool = True, seed: int = 0, loss: str = 'ce', norm: str = 'linf',
                 restarts: int = 1):
        check_ball(radius, norm)
        check_number('step_size', step_size, 'it is given for images of [0, 1], such as 2/255',
                     most=1 if norm == 'linf' else math.inf)
        check_number('restarts', restarts, 'an attack needs at least 1 start', whole=True)
        if restarts > 1 and not random_start:
            raise ValueError(f'restarts={restarts} without random_start: all would be the same')
        if loss not in PIXEL_LOSSES:
            raise ValueError(f"loss='{loss}': choose {', '.join(PIXEL_LOSSES)}")
        check_number('steps', steps, 'an attack needs at least 1 step', whole=True)
        self.radius = radius
        self.step_size = step_size
        self.steps = int(steps)
        self.random_start = random_start
        self.seed = seed
        self.loss = loss
        self.norm = norm
        self.restarts = int(restarts)
        self.records: list[dict[str, float]] = []
        self.unmoved: list[bool] = []

    def __call__(self, model: nn.Module, data: dict) -> dict:
        """The batch with adversarial images."""
        victim = Victim(model, data)
        adversarial, scores = self._attacked(victim, 'pgd'), None
        for restart in range(1, self.restarts):
            scores = victim.scores(adversarial) if scores is None else scores
            other = self._attacked(victim, f'pgd, start {restart}')
            found = victim.scores(other)
            lower = found < scores
            adversarial, scores = where(lower, other, adversarial), where(lower, found, scores)
        self.unmoved = [*self.unmoved, *(~victim.moved).tolist()]
        return victim.batch(adversarial)

    def _attacked(self, victim: Victim, start: str) -> Tensor:
        offset = None
        if self.random_start:
            offset = start_offset(victim.uniform(start, self.seed), self.radius, self.norm)
        seen: list[Tensor] = []

        def loss(images: Tensor) -> Tensor:
            losses = victim.losses(images, self.loss, len(seen) / self.steps)
            seen.append(losses.detach())
            return losses.sum()

        adversarial = projected_gradient(
            victim.images, loss, radius=self.radius, step_size=self.step_size, steps=self.steps,
            start=offset, norm=self.norm, watch=victim.watch)
        if self.steps > 1 and self.loss == 'ce' and start == 'pgd':
            self.records = [*self.records, *(
                dict(loss_first=first, loss_last=last) for first, last in zip(
                    seen[0].tolist(), seen[-1].tolist(), strict=True))]
        return adversarial
