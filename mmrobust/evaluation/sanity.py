"""Is a number under attack one of robustness? Budgets, and signs that gradients are masked.

The signs are those of Athalye, Carlini and Wagner, "Obfuscated Gradients Give a False Sense of
Security", ICML 2018, section 3.1, and of AutoAttack: more budget must not help the model, an
iterated attack must not be weaker than a single step, and one without gradients not find what
attacks with gradients miss.
"""
from collections.abc import Iterator, Mapping
from typing import Any

from .protocols import CLEAN

# points of the metric (per cent) that are more than chance
MARGIN = 1.
MEMBER = 'attack/mIoU_after_'
GREY = ('radius', 'step_size')


def budgets(results: Mapping[str, Any]) -> list[str]:
    """What each attack of a results file was allowed, a sentence for each."""
    sentences = {}
    for cell in results['cells']:
        if attack := cell.get('attack'):
            settings = [f'{key} {_readable(key, value)}' for key, value in attack.items()
                        if key not in ('type', 'seed') and value is not None]
            sentences.setdefault(cell['name'], f'{cell["name"]}: {attack["type"]}, '
                                               f'{", ".join(settings)}')
    return [*sentences.values(), *_choices(results)]


def _choices(results: Mapping[str, Any]) -> Iterator[str]:
    """What an ensemble comes to with all images in view, beside its members."""
    for cell in results['cells']:
        noted = cell.get('measures', {})
        if (value := noted.get('attack/mIoU_greedy')) is not None:
            members = ', '.join(f'{name.removeprefix(MEMBER)} {own:.2f}'
                                for name, own in noted.items() if name.startswith(MEMBER))
            yield (f'{cell["name"]}: mIoU {value:.2f} where the images are chosen with that of all '
                   f"in view, as SEA's authors do; {members} alone")


def _readable(key: str, value: Any) -> str:
    if key in GREY and isinstance(value, float):
        return f'{255 * value:g}/255'
    return '+'.join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def warnings(results: Mapping[str, Any]) -> list[str]:
    """Signs of masked gradients, each with the check that showed it.

    Args:
        results (Mapping): Content of a results file, whose metric grows with quality.
    """
    return [f'GRADIENTS MAY BE MASKED, so that the model is less robust than it looks: {sign}'
            for sign in _signs(results)]


def _signs(results: Mapping[str, Any]) -> Iterator[str]:
    metric = results['metric']
    cells = [cell for cell in results['cells'] if cell.get('attack')
             and cell['metrics'].get(metric) is not None]
    clean = next((cell['metrics'].get(metric) for cell in results['cells']
                  if cell['name'] == CLEAN), None)
    for cell in cells:
        noted = cell.get('measures', {})
        first, last = (noted.get(f'attack/loss_{which}') for which in ('first', 'last'))
        if None not in (first, last) and last <= first:
            yield (f'the loss of {cell["name"]} does not grow with the steps ({first:.4g} at the '
                   f'first, {last:.4g} at the last)')
        found = noted.get('attack/changed_by_square') or 0
        if found > MARGIN and any(f'attack/changed_by_{name}' in noted
                                  for name in ('apgd-ce', 'apgd-t', 'fab-t')):
            yield (f'{found:.2f} % of the images of {cell["name"]} were changed by random search '
                   'only, after all attacks with gradients failed')
    families: dict[str, list[tuple[float, dict]]] = {}
    for cell in cells:
        kind = {key: value for key, value in cell['attack'].items()
                if key not in (*GREY, 'seed')}
        if isinstance(cell['attack'].get('radius'), float):
            families.setdefault(str(sorted(kind.items(), key=str)), []).append(
                (cell['attack']['radius'], cell))
    for family in families.values():
        ordered = sorted(family, key=lambda one: one[0])
        for (low, smaller), (high, larger) in zip(ordered, ordered[1:], strict=False):
            gain = larger['metrics'][metric] - smaller['metrics'][metric]
            if high > low and gain > MARGIN:
                yield (f'{larger["name"]} leaves {gain:.2f} points more than {smaller["name"]}, '
                       'whose radius is smaller')
    steps = [cell for cell in cells if cell['attack']['type'] == 'PGD']
    for single in (cell for cell in steps if cell['attack'].get('steps') == 1):
        for several in steps:
            own, other = several['attack'], single['attack']
            gain = several['metrics'][metric] - single['metrics'][metric]
            if (own.get('steps', 1) > 1 and own['radius'] >= other['radius'] and gain > MARGIN
                    and own.get('norm') == other.get('norm')):
                yield (f'{several["name"]} of {own["steps"]} steps leaves {gain:.2f} points more '
                       f'than the single step of {single["name"]}')
    for cell in cells:
        radius = cell['attack'].get('radius') or 0
        value = cell['metrics'][metric]
        if (cell['attack'].get('norm', 'linf') == 'linf' and radius >= .5 and clean
                and cell['attack']['type'] != 'PatchFool' and value > clean / 2):
            yield (f'{cell["name"]} may turn every image grey, and {value:.2f} of '
                   f'{clean:.2f} are left')
