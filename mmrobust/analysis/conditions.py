"""What happens to an image before a model looks at it: a common corruption, hidden patches."""
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mmengine.dataset import pseudo_collate
from mmengine.registry import TASK_UTILS
from torch import nn

from mmrobust.datasets.transforms.corrupt import Corrupt


@dataclass(frozen=True)
class Condition:
    """Clean (nothing given), a corruption at a severity, a share of occluded patches, or both.

    Attributes:
        name (str, optional): One of ``mmrobust.corruptions.NAMES``.
        severity (int): 1 to 5.
        seed (int): Changes the random draws, of the corruption and of patches.
        family (str): Severity table, 'imagenet' or 'cifar' (milder, for 32 x 32 pixels).
        occlude (float, optional): Share of the patches that are replaced, see
            ``PatchCorruptionAttack``.
        patch_size (int): Their side in pixels.
        fill (str): ``'noise'`` or ``'drop'`` (mean colour).
        chosen_by (str, optional): Whose corruption model chooses them, a checkpoint or
            ``'model'``. At random by default.
    """
    name: str | None = None
    severity: int = 3
    seed: int = 0
    family: str = 'imagenet'
    occlude: float | None = None
    patch_size: int = 16
    fill: str = 'noise'
    chosen_by: str | None = None

    def __str__(self) -> str:
        parts = [f'{self.name.replace("_", " ")} {self.severity}'] if self.name else []
        if self.occlude is not None:
            chosen = 'chosen' if self.chosen_by else 'random'
            parts.append(f'{100 * self.occlude:.3g} % {chosen} patches')
        return ', '.join(parts) or 'clean'

    @property
    def is_clean(self) -> bool:
        """Whether nothing happens to the image."""
        return self.name is None and self.occlude is None

    @property
    def corruption(self) -> dict | None:
        """Arguments of the transform ``Corrupt``, as those of a benchmark's cell."""
        if self.name is None:
            return None
        return dict(name=self.name, severity=self.severity, seed=self.seed, family=self.family)

    def check(self) -> None:
        """Say what is wrong with it, before models are loaded.

        Raises:
            ValueError: If the corruption is unknown, or the patches cannot be occluded so.
        """
        if self.corruption is not None:
            Corrupt(**self.corruption)
        if self.occlude is not None:
            _ = self._occlusion

    def change(self, model: nn.Module, data: dict) -> dict:
        """What the pipeline packed, with patches occluded, as the model is given it."""
        if self.occlude is None:
            return data
        return {**data, 'inputs': self._occlusion(model, pseudo_collate([data]))['inputs'][0]}

    @cached_property
    def _occlusion(self) -> Any:
        return TASK_UTILS.build(dict(
            type='PatchCorruptionAttack', ratio=self.occlude, patch_size=self.patch_size,
            fill=self.fill, chosen_by=self.chosen_by, seed=self.seed))


CLEAN = Condition()


def describe(conditions: Sequence[Condition]) -> str:
    """What a figure calls several conditions."""
    return ', '.join(dict.fromkeys(map(str, conditions)))
