"""Cells that are draws of one thing, such as random masks: their spread, kind by kind.

Draws are in no order, and kinds (patches at random, patches that a model chose) answer different
questions, so there is a distribution of each and no mean over both.
"""
from collections.abc import Mapping, Sequence
from statistics import stdev
from typing import Any

import numpy as np

from .protocols import CLEAN, Protocol

QUANTILES = {'min': 0., 'q05': 0.05, 'q25': 0.25, 'median': 0.5, 'q75': 0.75, 'q95': 0.95,
             'max': 1.}
STATISTICS = ('mean', 'std', *QUANTILES)


def spread(protocol: Protocol, cells: Mapping[tuple[str, int], Mapping[str, float | None]],
           metric: str) -> dict:
    """P, and of every kind the mean, standard deviation and quantiles over its draws.

    Args:
        protocol (Protocol): The protocol, whose severities are numbers of draws.
        cells (Mapping): The finished cells.
        metric (str): The metric to describe.

    Returns:
        dict: ``P``; ``types``, the mean of each kind; ``draws``, of each kind ``finished`` and
        ``expected`` draws and :data:`STATISTICS`. Statistics are None until all draws of the
        kind are finished, and the standard deviation (n - 1) also for a single draw.
    """
    kinds: dict[str, list[float | None]] = {}
    for cell in protocol.cells:
        if cell.name != CLEAN:
            kinds.setdefault(cell.name, []).append(cells.get(cell.key, {}).get(metric))
    draws = {name: _describe(values) for name, values in kinds.items()}
    return dict(P=cells.get((CLEAN, 0), {}).get(metric),
                types={name: described['mean'] for name, described in draws.items()}, draws=draws)


def _describe(values: Sequence[float | None]) -> dict[str, float | int | None]:
    known = [value for value in values if value is not None]
    counts = dict(finished=len(known), expected=len(values))
    if len(known) < len(values):
        return {**counts, **dict.fromkeys(STATISTICS)}
    return {**counts, 'mean': float(np.mean(known)),
            'std': stdev(known) if len(known) > 1 else None,
            **{name: float(np.quantile(known, at)) for name, at in QUANTILES.items()}}


def values_of_draws(results: Mapping[str, Any]) -> dict[str, list[float]]:
    """The finished values of every kind.

    Args:
        results (Mapping): Content of a results file.
    """
    found: dict[str, list[float]] = {name: [] for name in results['summary']['draws']}
    for cell in results['cells']:
        value = cell['metrics'].get(results['metric'])
        if cell['name'] in found and value is not None:
            found[cell['name']].append(value)
    return found


def draw_sentences(summary: Mapping[str, Any]) -> list[str]:
    """One part of a headline for each kind whose draws are finished."""
    parts = []
    for name, own in summary['draws'].items():
        if own['mean'] is None:
            continue
        text = f'{name} {own["mean"]:.2f}'
        if own['expected'] > 1:
            text += (f' (mean of {own["expected"]} draws, standard deviation {own["std"]:.2f}, '
                     f'{own["min"]:.2f} to {own["max"]:.2f})')
        parts.append(text)
    return parts


def draw_rows(models: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for every model and kind, the clean test among them.

    Args:
        models (Sequence[Mapping]): Contents of results files.
    """
    rows = []
    for model in models:
        clean = model['summary']['P']
        rows.append(dict(model=model['model'], metric=model['metric'], name=CLEAN,
                         finished=int(clean is not None), expected=1, mean=clean, std=None,
                         **dict.fromkeys(QUANTILES, clean)))
        rows += [dict(model=model['model'], metric=model['metric'], name=name, **own)
                 for name, own in model['summary']['draws'].items()]
    return rows
