"""Attacks on the model's input; the attacks themselves are built from MMEngine's TASK_UTILS."""
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
        steps: int | None = None, random_start: bool | None = None, seed: int = 0) -> Protocol:
    """L-infinity PGD: the settings of both repositories and FGSM, or a range of radii.

    Args:
        name (str): Name of the protocol.
        settings (str | Sequence[str]): Of ``'fgsm'``, ``'rvt'`` and ``'rspc'``.
        radii (float | Sequence[float], optional): Radii in grey levels (of 255) that take the
            place of the settings.
        step_size (float, optional): In grey levels. Defaults to a quarter of each radius.
        steps (int, optional), random_start (bool, optional): Of the attacks on ``radii``.
            Default to 5 and True.
        seed (int): Selects other random starts.

    Raises:
        ValueError: On an unknown setting, or if what belongs to radii is given without them.
    """
    own = {key: value for key, value in dict(step_size=step_size, steps=steps,
                                             random_start=random_start).items()
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
        radii = [radii] if isinstance(radii, (int, float, str)) else radii
        for radius in radii:
            if not isinstance(radius, (int, float)):
                raise ValueError(f'radii={radius}: give numbers, in grey levels of 255')
        attacks = {f'pgd_{radius:g}': dict(
            radius=radius / 255,
            step_size=(radius / 4 if step_size is None else step_size) / 255,
            steps=own.get('steps', 5), random_start=own.get('random_start', True))
            for radius in radii}
    return _protocol(name, [
        Cell(cell, attack=dict(type='PGD', seed=seed, **attack))
        for cell, attack in attacks.items()])


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
    """
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


def _protocol(name: str, cells: list[Cell], summary: str = 'plain') -> Protocol:
    return Protocol(name, (Cell(CLEAN), *cells), {'': tuple(dict.fromkeys(
        cell.name for cell in cells))}, summary)
