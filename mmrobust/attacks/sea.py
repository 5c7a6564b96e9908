"""An ensemble of APGD on several losses of a segmenter, the worst for each image.

Croce, Singh and Hein, "Towards Reliable Evaluation and Fast Training of Robust Semantic
Segmentation Models", ECCV 2024 (SEA).
"""
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.registry import TASK_UTILS
from torch import nn

from .apgd import auto_pgd, shrinking_pgd
from .norms import check_ball, start_offset, where
from .pixels import PIXEL_LOSSES
from .victim import Victim, check_number

SEA_LOSSES = ('mask_ce_bal', 'mask_ce', 'js')


@TASK_UTILS.register_module(force=True)
class SegmentationEnsemble:
    """APGD on several losses of a segmenter; each image keeps what its IoU fared worst with.

    The clean image is among what it chooses from. SEA itself chooses with the mIoU of all images
    in view: :meth:`summary` says what that is.

    Args:
        radius (float): Of the ball, for images of [0, 1]. Defaults to 8/255.
        norm (str): ``'linf'`` or ``'l2'``. Defaults to ``'linf'``.
        losses (Sequence[str]): Of :data:`PIXEL_LOSSES`. Defaults to SEA's three.
        steps (int): For each loss and start. Defaults to 300, as SEA has it.
        restarts (int): Random starts for each loss. Defaults to 1.
        shrink (bool): Begin in larger balls, see :func:`shrinking_pgd`. Defaults to True.
        seed (int): Selects other random starts.

    Attributes:
        records (list[dict]): Of each image so far, its IoU in per cent before, after each loss and
            after all of them.
        unmoved (list[bool]): Of each image so far, whether all its gradients were exactly zero.
        counts (list[np.ndarray]): Of each image so far, (choices, 3, classes) pixels: clean, and
            the worst that each loss found.

    Raises:
        ValueError: On a setting that is not positive, or unknown.
    """

    def __init__(self, radius: float = 8 / 255, norm: str = 'linf',
                 losses: Sequence[str] = SEA_LOSSES, steps: int = 300, restarts: int = 1,
                 shrink: bool = True, seed: int = 0) -> None:
        check_ball(radius, norm)
        check_number('steps', steps, 'an attack needs at least 1 step', whole=True)
        check_number('restarts', restarts, 'an attack needs at least 1 start', whole=True)
        losses = [losses] if isinstance(losses, str) else list(losses)
        for loss in losses:
            if loss not in PIXEL_LOSSES:
                raise ValueError(f"losses='{loss}': choose of {', '.join(PIXEL_LOSSES)}")
        if not losses:
            raise ValueError(f'losses is empty: choose of {", ".join(PIXEL_LOSSES)}')
        self.radius = radius
        self.norm = norm
        self.losses = losses
        self.steps = int(steps)
        self.restarts = int(restarts)
        self.shrink = shrink
        self.seed = seed
        self.records: list[dict[str, float]] = []
        self.unmoved: list[bool] = []
        self.counts: list[np.ndarray] = []

    def __call__(self, model: nn.Module, data: dict) -> dict:
        """The batch with adversarial images."""
        victim = Victim(model, data)
        worst, scores = victim.images, victim.scores(victim.images)
        columns = dict(IoU_before=scores)
        attack = shrinking_pgd if self.shrink else auto_pgd
        counts = [victim.counts(victim.images)]
        for loss in self.losses:
            own, lowest = victim.images, torch.full_like(scores, torch.inf)
            for restart in range(self.restarts):
                offset = start_offset(victim.uniform(f'{loss}, start {restart}', self.seed),
                                      self.radius, self.norm)
                found = attack(
                    victim.images, lambda images, loss=loss: victim.judge(images, loss),
                    radius=self.radius, norm=self.norm, steps=self.steps,
                    start=victim.images + offset)
                lower = found.worst_scores < scores
                worst = where(lower, found.worst_images, worst)
                scores = torch.minimum(scores, found.worst_scores)
                own = where(found.worst_scores < lowest, found.worst_images, own)
                lowest = torch.minimum(lowest, found.worst_scores)
            columns[f'IoU_after_{loss}'] = lowest
            counts.append(victim.counts(own))
        columns['IoU_after'] = scores
        values = (100 * torch.stack(list(columns.values()), 1)).tolist()
        self.records = [*self.records, *(dict(zip(columns, row, strict=True)) for row in values)]
        self.unmoved = [*self.unmoved, *(~victim.moved).tolist()]
        self.counts = [*self.counts, *torch.stack(counts, 1).cpu().numpy()]
        return victim.batch(worst)

    def summary(self, counts: Sequence[np.ndarray]) -> dict[str, float]:
        """mIoU in per cent of each loss by itself, and where all images are chosen together.

        Args:
            counts (Sequence[np.ndarray]): See the attribute.
        """
        counts = np.stack(counts).astype(np.float64)  # (images, choices, 3, classes)
        single = {loss: _miou(counts[:, i].sum(0)) for i, loss in enumerate(self.losses, 1)}
        found = {f'mIoU_after_{loss}': value.item() for loss, value in single.items()}
        return {**found, 'mIoU_greedy': _greedy(counts)}


def _miou(totals: np.ndarray) -> np.ndarray:
    """mIoU in per cent of pixels (..., 3, classes)."""
    hits, predicted, labelled = np.moveaxis(totals, -2, 0)
    union = predicted + labelled - hits
    there = union > 0
    iou = np.divide(hits, union, out=np.zeros_like(hits), where=there)
    return 100 * iou.sum(-1) / there.sum(-1).clip(1)


def _greedy(counts: np.ndarray) -> float:
    """The lowest mIoU that changing the choice of one image after another comes to.

    It starts from the best of: the same choice for all images, and each image's own worst.
    """
    images, choices = np.arange(len(counts)), counts.shape[1]
    starts = [np.full(len(counts), choice) for choice in range(choices)]
    starts.append(_miou(counts).argmin(1))
    chosen = min(starts, key=lambda start: _miou(counts[images, start].sum(0)))
    totals, value = counts[images, chosen].sum(0), np.inf
    while (now := _miou(totals).item()) < value:
        value = now
        for image, own in enumerate(counts):
            others = totals - own[chosen[image]] + own
            chosen[image] = _miou(others).argmin()
            totals = others[chosen[image]]
    return value
