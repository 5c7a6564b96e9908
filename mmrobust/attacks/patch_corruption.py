"""Corrupting patches of test images with noise: at random, or where a trained model says."""
import math

import torch
from mmengine.registry import TASK_UTILS
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from mmrobust.checkpoints import guard_loading
from mmrobust.models.alignment import PatchCorruption, PatchCorruptionModel

from .victim import Victim

PREFIX = 'alignment.corruption.'


def load_corruption_model(checkpoint: str, ratio: float, fill: str) -> PatchCorruptionModel:
    """The corruption model of a checkpoint of training with adversarial feature alignment.

    Raises:
        ValueError: If there is none in it, or its grid is not square.
    """
    with guard_loading():
        state = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    state = state.get('state_dict', state)
    weights = {key.removeprefix(PREFIX): value for key, value in state.items()
               if key.startswith(PREFIX)}
    if not weights:
        raise ValueError(f'{checkpoint} holds no corruption model ({PREFIX}*): give a checkpoint '
                         'trained with AdversarialFeatureAlignment and a PatchCorruptionModel')
    side = math.isqrt(len(weights['fc.weight']))
    if side ** 2 != len(weights['fc.weight']):
        raise ValueError(f'the corruption model of {checkpoint} has no square grid of patches')
    model = PatchCorruptionModel(
        grid=side, patch_size=weights['patch_embed.weight'].shape[-1], ratio=ratio, fill=fill)
    model.load_state_dict(weights)
    return model


@TASK_UTILS.register_module(force=True)
class PatchCorruptionAttack:
    """Replaces a share of the patches, as the corruption of AFAT's training does.

    Args:
        ratio (float): Share of the patches. Defaults to 0.1.
        patch_size (int): Side of a random patch in pixels; a corruption model has its own.
            Defaults to 16.
        fill (str): ``'noise'`` or ``'drop'``, see :class:`PatchCorruption`.
            Defaults to ``'noise'``.
        chosen_by (str, optional): Checkpoint whose corruption model chooses the patches, or
            ``'model'`` for that of the model under attack. By default they are random.
        seed (int): Selects another set of patches and noise.

    Raises:
        ValueError: On an invalid setting, if the corruption model is missing, or if an image has
            fewer patches than one in ``1 / ratio``.
    """

    def __init__(self, ratio: float = 0.1, patch_size: int = 16, fill: str = 'noise',
                 chosen_by: str | None = None, seed: int = 0):
        self.chosen_by = chosen_by
        self.seed = seed
        self.corruption = (PatchCorruption(ratio, patch_size, fill) if chosen_by in (None, 'model')
                           else load_corruption_model(chosen_by, ratio, fill))

    @torch.no_grad()
    def __call__(self, model: nn.Module, data: dict) -> dict:
        """The batch with corrupted images."""
        victim = Victim(model, data)
        images = victim.normalise(victim.images)
        if self.chosen_by != 'model':
            self._check_ratio(images)
        generators = victim.generators('patch_corruption', self.seed)
        scores = self._scores(victim, images, generators)
        noise = None
        if self.corruption.fill == 'noise':
            noise = torch.stack([torch.rand(images.shape[1:], generator=g)
                                 for g in generators]).to(images)
        low, high = (victim.normalise(torch.full_like(images[0], end)) for end in (0., 1.))
        corrupted = self.corruption.occlude(images, self.corruption.keep(scores), low, high, noise)
        return victim.batch(victim.denormalise(corrupted).clamp(0, 1))

    def _check_ratio(self, images: Tensor) -> None:
        """At least one patch is corrupted: of few patches, that is far more than the ratio."""
        rows, columns = self.corruption.grid(images)
        if rows * columns * self.corruption.ratio < 1:
            raise ValueError(
                f'ratio={self.corruption.ratio} of {rows} x {columns} patches is less than one of '
                f'them: take smaller patches than patch_size={self.corruption.patch_size}, or a '
                f'ratio of at least {1 / (rows * columns):.3g}')

    def _scores(self, victim: Victim, images: Tensor, generators: list) -> Tensor:
        if self.chosen_by is None:
            grid = self.corruption.grid(images)
            return torch.stack([torch.rand(grid, generator=g) for g in generators]).to(images)
        if self.chosen_by == 'model':
            corruption = getattr(getattr(victim.model, 'alignment', None), 'corruption', None)
            if not isinstance(corruption, PatchCorruptionModel):
                raise ValueError(
                    "chosen_by='model', but the model has no corruption model: test it with the "
                    'config it was trained with, of AdversarialFeatureAlignment, or name a '
                    'checkpoint')
            self.corruption.patch_size = corruption.patch_size
            self._check_ratio(images)
            return corruption.scores(images)
        return self.corruption.to(images.device).scores(images)
