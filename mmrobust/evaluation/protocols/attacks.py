"""Attacks on the model's input; the attacks themselves are built from MMEngine's TASK_UTILS."""
import math
from collections.abc import Sequence

from mmrobust.checkpoints import find_checkpoint

from .base import CLEAN, Cell, Protocol, register_protocol, unknown

# as the repositories of RVT and RSPC (AFAT) test; radii for images of [0, 1]
PGD_SETTINGS = {
    'fgsm': dict(radius=1 / 255, step_size=1 / 255, steps=1, random_start=False),
    'rvt': dict(radius=1 / 255, step_size=.5 / 255, steps=5, random_start=True),
    'rspc': dict(radius=8 / 255, step_size=2 / 255, steps=5, random_start=True),
}


@register_protocol('pgd')
def pgd(name: str, settings: str | Sequence[str] = tuple(PGD_SETTINGS),
        radii: float | Sequence[float] | None = None, step_size: float | None = None,
        steps: int | None = None, random_start: bool | None = None, norm: str | None = None,
        restarts: int | None = None, seed: int = 0) -> Protocol:
    """PGD: the settings of both repositories and FGSM (L-infinity), or a range of radii.

    Args:
        name (str): Name of the protocol.
        settings (str | Sequence[str]): Of ``'fgsm'``, ``'rvt'`` and ``'rspc'``.
        radii (float | Sequence[float], optional): Radii in grey levels (of 255) that take the
            place of the settings.
        step_size (float, optional): In grey levels. Defaults to a quarter of each radius.
        steps (int, optional), random_start (bool, optional): Of the attacks on ``radii``.
            Default to 5 and True.
        norm (str, optional), restarts (int, optional): Of the attacks on ``radii``: ``'linf'`` or
            ``'l2'``, and from how many random starts. Default to ``'linf'`` and 1.
        seed (int): Selects other random starts.

    Raises:
        ValueError: On an unknown setting, or if what belongs to radii is given without them.
    """
    own = {key: value for key, value in dict(step_size=step_size, steps=steps,
                                             random_start=random_start, norm=norm,
                                             restarts=restarts).items()
           if value is not None}
    if radii is None:
        if own:
            raise ValueError(
                f'{", ".join(f"{key}={value}" for key, value in own.items())}: the settings '
                f'{", ".join(PGD_SETTINGS)} have their own; give radii too, such as radii=8')
        settings = [settings] if isinstance(settings, str) else settings
        for setting in settings:
            if setting not in PGD_SETTINGS:
                raise unknown('PGD setting', setting, PGD_SETTINGS)
        attacks = {f'pgd_{setting}': PGD_SETTINGS[setting] for setting in settings}
    else:
        attacks = {f'pgd_{cell}': dict(
            radius=radius, step_size=radius / 4 if step_size is None else step_size / 255,
            steps=own.get('steps', 5), random_start=own.get('random_start', True),
            **{key: own[key] for key in ('norm', 'restarts') if key in own})
            for cell, radius in _radii(radii, norm or 'linf').items()}
    return _protocol(name, [
        Cell(cell, attack=dict(type='PGD', seed=seed, **attack))
        for cell, attack in attacks.items()])


def _radii(radii: float | Sequence[float], norm: str) -> dict[str, float]:
    """Names of cells and radii for images of [0, 1], of radii in grey levels.

    Raises:
        ValueError: If one is no number above 0, or beyond what images can differ by.
    """
    found = {}
    for radius in [radii] if isinstance(radii, (int, float, str)) else radii:
        if not isinstance(radius, (int, float)) or isinstance(radius, bool):
            raise ValueError(f'radii={radius}: give numbers, in grey levels of 255')
        if not 0 < radius < math.inf or norm == 'linf' and radius > 255:
            raise ValueError(f'radii={radius:g}: radii are in grey levels, above 0'
                             + (' and at most 255' if norm == 'linf' else ''))
        found[f'{radius:g}' + ('' if norm == 'linf' else f'_{norm}')] = radius / 255
    if not found:
        raise ValueError('radii is empty: give at least one, such as radii=8')
    return found


def _weighted_pgd(name: str, radii: float | Sequence[float] = (8,), norm: str = 'linf',
                  steps: int = 20, step_size: float | None = None, restarts: int = 1,
                  random_start: bool = True, seed: int = 0) -> Protocol:
    """PGD on a loss of single pixels, for segmenters: SegPGD and CosPGD.

    Args:
        name (str): ``'segpgd'`` or ``'cospgd'``.
        radii (float | Sequence[float]): In grey levels (of 255), also of the L2 norm.
        norm (str): ``'linf'`` or ``'l2'``.
        steps (int): Number of steps.
        step_size (float, optional): In grey levels. Defaults to a quarter of each radius.
        restarts (int): Random starts, of which each image keeps the worst.
        random_start (bool): Whether to start anywhere in the ball.
        seed (int): Selects other random starts.
    """
    return _protocol(name, [Cell(f'{name}_{cell}', attack=dict(
        type='PGD', loss=name, norm=norm, radius=radius, steps=steps, restarts=restarts,
        step_size=radius / 4 if step_size is None else step_size / 255,
        random_start=random_start, seed=seed)) for cell, radius in _radii(radii, norm).items()],
        task='segmentation')


register_protocol('segpgd')(_weighted_pgd)
register_protocol('cospgd')(_weighted_pgd)


@register_protocol('sea')
def sea(name: str, radii: float | Sequence[float] = (8,), norm: str = 'linf',
        losses: str | Sequence[str] = ('mask_ce_bal', 'mask_ce', 'js'), steps: int = 300,
        restarts: int = 1, shrink: bool = True, seed: int = 0) -> Protocol:
    """An ensemble of APGD on three losses, for segmenters; each image keeps the worst.

    Args:
        name (str): Name of the protocol.
        radii (float | Sequence[float]): In grey levels (of 255), also of the L2 norm.
        norm, losses, steps, restarts, shrink, seed: See
            :class:`mmrobust.attacks.sea.SegmentationEnsemble`.
    """
    return _protocol(name, [Cell(f'sea_{cell}', attack=dict(
        type='SegmentationEnsemble', norm=norm, radius=radius, losses=losses, steps=steps,
        restarts=restarts, shrink=shrink, seed=seed))
        for cell, radius in _radii(radii, norm).items()], task='segmentation')


@register_protocol('autoattack')
def autoattack(name: str, radii: float | Sequence[float] = (8,), norm: str = 'linf',
               attacks: str | Sequence[str] | None = None, steps: int = 100, queries: int = 5000,
               restarts: int = 1, seed: int = 0) -> Protocol:
    """AutoAttack on classifiers.

    Args:
        name (str): Name of the protocol.
        radii (float | Sequence[float]): In grey levels (of 255), also of the L2 norm.
        norm, attacks, steps, queries, restarts, seed: See
            :class:`mmrobust.attacks.auto_attack.AutoAttack`.
    """
    if attacks is None:  # by name, so that the results say what ran
        attacks = ['apgd-ce', 'apgd-t', 'fab-t', 'square']
    return _protocol(name, [Cell(f'autoattack_{cell}', attack=dict(
        type='AutoAttack', norm=norm, radius=radius, attacks=attacks, steps=steps,
        queries=queries, restarts=restarts, seed=seed))
        for cell, radius in _radii(radii, norm).items()], task='classification')


@register_protocol('patch-fool')
def patch_fool(name: str, num_patches: int = 1, patch_size: int = 16, choice: str = 'attention',
               choice_layer: int = 4, attention_weight: float = 0.002, steps: int = 250,
               radius: float | None = None, seed: int = 0) -> Protocol:
    """Patch-Fool; the AFAT paper reports it with one patch that is not constrained.

    Args:
        name (str): Name of the protocol.
        num_patches, patch_size, choice, choice_layer, attention_weight, steps, seed: See
            :class:`mmrobust.attacks.patch_fool.PatchFool`.
        radius (float, optional): L-infinity constraint in grey levels (of 255).
    """
    return _protocol(name, [Cell('patch_fool', attack=dict(
        type='PatchFool', num_patches=num_patches, patch_size=patch_size, choice=choice,
        choice_layer=choice_layer, attention_weight=attention_weight, steps=steps, seed=seed,
        radius=None if radius is None else radius / 255))])


@register_protocol('patch-corruption')
def patch_corruption(name: str, masks: int = 10, chosen_by: str | None = None,
                     ratio: float = 0.1, patch_size: int = 16, fill: str = 'noise',
                     seed: int = 0) -> Protocol:
    """A share of the patches replaced by noise: many random draws, and those that one chose.

    Args:
        name (str): Name of the protocol.
        masks (int): How many random draws, numbered in the place of severities; the AFAT paper
            shows 100.
        chosen_by (str, optional): Also corrupt the patches that a trained corruption model
            chooses: ``'model'`` for the tested model's own, or a checkpoint or work dir.
        ratio, patch_size, fill: See :class:`mmrobust.models.alignment.PatchCorruption`.
        seed (int): Selects other draws.

    Raises:
        ValueError: If nothing would be tested, or the number of draws is none.
    """
    if not isinstance(masks, int) or isinstance(masks, bool):
        raise ValueError(f'masks={masks}: give a whole number of random draws, such as 100')
    if masks < 0 or not masks and chosen_by is None:
        raise ValueError(f'masks={masks}: nothing would be tested; draw at least 1, or name who '
                         'chooses the patches (chosen_by)')
    settings = dict(type='PatchCorruptionAttack', ratio=ratio, patch_size=patch_size, fill=fill)
    cells = [Cell('random_patches', mask + 1, attack=dict(settings, seed=seed * masks + mask))
             for mask in range(masks)]
    if chosen_by is not None:
        if chosen_by != 'model':
            chosen_by = find_checkpoint(str(chosen_by))
        cells.append(Cell('chosen_patches', attack=dict(settings, seed=seed, chosen_by=chosen_by)))
    return _protocol(name, cells, summary='spread')


def _protocol(name: str, cells: list[Cell], summary: str = 'plain', task: str | None = None
              ) -> Protocol:
    return Protocol(name, (Cell(CLEAN), *cells), {'': tuple(dict.fromkeys(
        cell.name for cell in cells))}, summary, task=task)
