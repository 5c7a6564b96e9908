"""An ensemble of APGD on several losses of a segmenter, the worst for each image.

Croce, Singh and Hein, "Towards Reliable Evaluation and Fast Training of Robust Semantic
Segmentation Models", ECCV 2024 (SEA).
"""
from collections.abc import Sequence

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

    The clean image is among what it chooses from. SEA itself chooses with an eye on the mIoU of
    all images, which may come out lower by a little.

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

    def __call__(self, model: nn.Module, data: dict) -> dict:
        """The batch with adversarial images."""
        victim = Victim(model, data)
        worst, scores = victim.images, victim.scores(victim.images)
        columns = dict(IoU_before=scores)
        attack = shrinking_pgd if self.shrink else auto_pgd
        for loss in self.losses:
            lowest = torch.full_like(scores, torch.inf)
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
                lowest = torch.minimum(lowest, found.worst_scores)
            columns[f'IoU_after_{loss}'] = lowest
        columns['IoU_after'] = scores
        values = (100 * torch.stack(list(columns.values()), 1)).tolist()
        self.records = [*self.records, *(dict(zip(columns, row, strict=True)) for row in values)]
        self.unmoved = [*self.unmoved, *(~victim.moved).tolist()]
        return victim.batch(worst)
