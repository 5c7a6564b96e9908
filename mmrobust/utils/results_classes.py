"""What results say of single classes and of confidence: which suffers most, and where."""
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from .results_file import CLEAN

# a class that was there (clean) and is hardly found any more, in per cent
THERE, GONE = 10., 1.
CONFIDENCE = {'calibration/ECE': 'ECE', 'calibration/adaptive_ECE': 'adaptive ECE',
              'calibration/Brier': 'Brier', 'calibration/NLL': 'NLL',
              'failure_detection/AUROC': 'AUROC', 'failure_detection/AUPR': 'AUPR',
              'failure_detection/FPR95': 'FPR95'}
"""Names of measures of confidence to what tables call them."""


class ClassTable(NamedTuple):
    """Results of every class that occurs, by condition.

    Attributes:
        measure (str): ``'IoU'`` or ``'accuracy'``, in per cent.
        classes (list[str]): Names.
        conditions (list[str]): ``clean`` and the types, each a mean over its finished severities.
        values (list[list[float | None]]): (classes, conditions).
    """
    measure: str
    classes: list[str]
    conditions: list[str]
    values: list[list[float | None]]


def class_table(results: Mapping[str, Any]) -> ClassTable | None:
    """The table of a results file; None if nothing was measured by class."""
    cells = [cell for cell in results['cells'] if per_class(cell)]
    if not cells:
        return None
    measure, first = per_class(cells[0])
    cells = [cell for cell in cells if len(per_class(cell)[1]) == len(first)]
    conditions = list(dict.fromkeys(cell['name'] for cell in cells))
    columns = [[per_class(cell)[1] for cell in cells if cell['name'] == name]
               for name in conditions]
    names = _names(results, len(first))
    rows = [(name, [_mean(own[i] for own in column) for column in columns])
            for i, name in enumerate(names)]
    rows = [(name, row) for name, row in rows if any(value is not None for value in row)]
    return ClassTable(measure, [name for name, _ in rows], conditions, [row for _, row in rows])


def _worst_types(results: Mapping[str, Any], table: ClassTable | None) -> list[str]:
    """The type with the lowest mean, and the mean over classes of the type that is worst for each.

    Of types whose severities are all finished; where there is one only, it says nothing.
    """
    summary = results.get('summary', {})
    types = {name: value for name, value in summary.get('types', {}).items() if value is not None}
    if len(types) < 2 or 'headings' not in summary:
        return []
    worst = min(types, key=types.get)
    sentence = f'worst type: {worst}, {types[worst]:.2f}'
    if table and set(types) <= set(table.conditions):
        places = [table.conditions.index(name) for name in types]
        lowest = [min(known) for row in table.values
                  if (known := [row[i] for i in places if row[i] is not None])]
        sentence += f'; mean over classes of the type that is worst for each: {fmean(lowest):.2f}'
    return [sentence]


def vanished(results: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """(class, type, severity) of classes that vanish: below 1 per cent of at least 10 clean."""
    clean = next((found[1] for cell in results['cells']
                  if cell['name'] == CLEAN and (found := per_class(cell))), None)
    if clean is None:
        return []
    names = _names(results, len(clean))
    return [(names[i], cell['name'], cell['severity'])
            for cell in results['cells'] if (found := per_class(cell)) and len(found[1]) == len(
                clean) for i, value in enumerate(found[1])
            if value is not None and value < GONE and (clean[i] or 0) >= THERE]


def confidence_rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Calibration and failure detection, clean and of each type (mean over its severities)."""
    by_type: dict[str, list[Mapping[str, Any]]] = {}
    for cell in results['cells']:
        if any(name in cell.get('measures', {}) for name in CONFIDENCE):
            by_type.setdefault(cell['name'], []).append(cell['measures'])
    return [{'type': name, **{title: _mean(one.get(key) for one in own)
                              for key, title in CONFIDENCE.items()}}
            for name, own in by_type.items()]


def measure_sentences(results: Mapping[str, Any], most: int = 3) -> list[str]:
    """What stands below the table: the worst classes, those that vanish, and confidence."""
    sentences = []
    if (table := class_table(results)) and len(table.conditions) > 1:
        found = []
        for name, row in zip(table.classes, table.values, strict=True):
            values = dict(zip(table.conditions, row, strict=True))
            clean = values.pop(CLEAN, None)
            # what the model never finds says nothing of its robustness
            if clean is None or clean >= THERE:
                found += [(value, name, condition, clean) for condition, value in values.items()
                          if value is not None]
        if found:
            value, name, condition, clean = min(found, key=lambda one: one[:3])
            sentences.append(f'worst class: {name}, {table.measure} {value:.2f} under {condition}'
                             + ('' if clean is None else f' (clean {clean:.2f})'))
    sentences += _worst_types(results, table)
    gone: dict[str, list[str]] = {}
    for name, condition, severity in vanished(results):
        gone.setdefault(name, []).append(f'{condition} {severity}' if severity else condition)
    if gone:
        shown = [f'{name} ({", ".join(where[:most])}'
                 + (f' and {len(where) - most} more cells)' if len(where) > most else ')')
                 for name, where in list(gone.items())[:most]]
        more = f' and {len(gone) - most} more classes' if len(gone) > most else ''
        sentences.append(f'classes that vanish (below {GONE:g} of at least {THERE:g} clean): '
                         f'{", ".join(shown)}{more}')
    rows = confidence_rows(results)
    others = [row for row in rows if row['type'] != CLEAN]
    for title, text in (('ECE', 'calibration error (ECE)'),
                        ('AUROC', 'AUROC of right against wrong by confidence')):
        clean = next((row[title] for row in rows if row['type'] == CLEAN), None)
        mean = _mean(row[title] for row in others)
        parts = [f'{value:.2f} {name}' for value, name in ((clean, 'clean'), (
            mean, 'mean over types')) if value is not None]
        if parts:
            sentences.append(f'{text}, per cent: {", ".join(parts)}')
    return sentences


def per_class(cell: Mapping[str, Any]) -> tuple[str, Sequence[float | None]] | None:
    """Measure and values of a cell's classes: IoU where there is one, else accuracy."""
    for measure in ('IoU', 'accuracy'):
        values = cell.get('measures', {}).get(f'per_class/{measure}')
        if values is not None:
            return measure, values
    return None


def _names(results: Mapping[str, Any], number: int) -> list[str]:
    names = results.get('classes') or []
    return [names[i] if i < len(names) else str(i) for i in range(number)]


def _mean(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
