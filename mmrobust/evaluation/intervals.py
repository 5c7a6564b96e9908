"""How sure a number is: bootstrap over images of what every image contributed to it.

Percentile intervals of resampled images (Efron, 1979). All cells of a benchmark show the same
images, and so do two models: they are resampled together, so that differences are paired.
"""
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from mmrobust.utils.files import write_atomically
from mmrobust.utils.results_file import PART

from .protocols import CLEAN

FOLDER = 'images'
DRAWS, LEVEL = 1000, 95
PIECE = 50
# metrics are rounded to two decimals by the host libraries
ROUNDING = 0.011
Key = tuple[str, int]


def image_file(folder: str | Path, name: str, severity: int) -> Path:
    """Where the counts of a cell's images lie, beside its results file."""
    cell = name.replace('/', '_') + (f'_{severity}' if severity else '')
    return Path(folder, FOLDER, f'{cell}.npz')


def write_images(path: Path, counts: np.ndarray) -> None:
    """Keep what each image contributed.

    Args:
        path (Path): The file.
        counts (np.ndarray): (N, 3, classes) pixels that are hit, predicted and labelled of each
            class, or (N, 2) label and predicted class.
    """
    write_atomically(path, lambda temporary: np.savez_compressed(temporary, counts=counts))


def metric_of(counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """mIoU or top-1 accuracy in per cent of images that count several times, or not at all.

    Args:
        counts (np.ndarray): See :func:`write_images`.
        weights (np.ndarray): (draws, N), how often each image counts.

    Returns:
        np.ndarray: (draws,).
    """
    if counts.ndim == 2:
        return 100 * weights @ (counts[:, 0] == counts[:, 1]) / weights.sum(1)
    totals = (weights @ counts.reshape(len(counts), -1)).reshape(len(weights), 3, -1)
    union = totals[:, 1] + totals[:, 2] - totals[:, 0]
    there = union > 0  # a class of which no image was drawn is left out, as in the metric
    iou = np.divide(totals[:, 0], union, out=np.zeros_like(union), where=there)
    return 100 * iou.sum(1) / there.sum(1).clip(1)


def load_images(path: str | Path, results: Mapping[str, Any]) -> dict[Key, np.ndarray]:
    """The counts of those cells whose metric they make up; none of an older or other metric's.

    Args:
        path (str | Path): A results file.
        results (Mapping): Its content.
    """
    found = {}
    for cell in results['cells']:
        file = image_file(Path(path).parent, cell['name'], cell['severity'])
        value = cell['metrics'].get(results['metric'])
        if value is None or not file.is_file():
            continue
        try:
            with np.load(file) as content:
                counts = content['counts'].astype(np.float64 if content['counts'].ndim == 3
                                                  else np.int64)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            continue  # a damaged file costs an interval, no result
        if len(counts) and abs(metric_of(counts, np.ones((1, len(counts))))[0] - value) < ROUNDING:
            found[cell['name'], cell['severity']] = counts
    return found


def resampled(images: Sequence[Mapping[Key, np.ndarray]], draws: int = DRAWS, seed: int = 0
              ) -> list[dict[Key, np.ndarray]]:
    """The metric of every cell under the same draws of images.

    Args:
        images (Sequence[Mapping]): Counts of one or several models on the same images. Cells with
            another number of images than the most are left out.
        draws (int): How many.
        seed (int): Of the draws.

    Returns:
        list[dict]: Of each model, cell to (draws,) values.
    """
    sizes = [len(counts) for own in images for counts in own.values()]
    if not sizes:
        return [{} for _ in images]
    number = max(set(sizes), key=sizes.count)
    rng = np.random.default_rng(seed)
    parts: list[dict[Key, list[np.ndarray]]] = [{key: [] for key, counts in own.items()
                                                 if len(counts) == number} for own in images]
    for start in range(0, draws, PIECE):
        weights = np.stack([np.bincount(rng.integers(number, size=number), minlength=number)
                            for _ in range(min(PIECE, draws - start))]).astype(np.float64)
        for own, values in zip(images, parts, strict=True):
            for key in values:
                values[key].append(metric_of(own[key], weights))
    return [{key: np.concatenate(values) for key, values in own.items()} for own in parts]


def means(values: Mapping[Key, Any], layout: Mapping[str, Mapping[str, Sequence[int]]],
          total: str | None = 'mPC') -> dict[str, Any]:
    """P, the mean of every type and over types, of those that are complete; numbers or draws.

    Args:
        values (Mapping): Of each cell.
        layout (Mapping): Heading to types to severities, as in a results file.
        total (str, optional): What the mean over types is called; None where there is none.
    """
    def mean(items: list) -> Any:
        return fmean(items) if isinstance(items[0], float) else np.mean(items, axis=0)

    types = {name: [values.get((name, severity)) for severity in own or [0]]
             for names in layout.values() for name, own in names.items()}
    complete = {name: mean(own) for name, own in types.items()
                if own and all(value is not None for value in own)}
    found = {} if values.get((CLEAN, 0)) is None else {'P': values[CLEAN, 0]}
    if total and complete and len(complete) == len(types):
        found[total] = mean(list(complete.values()))
    return {**found, **complete}


def interval(values: np.ndarray) -> tuple[float, float]:
    """Where the middle 95 per cent of draws lie."""
    tail = (100 - LEVEL) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def interval_sentences(path: str | Path, results: Mapping[str, Any]) -> list[str]:
    """What stands below the table of one model: P and mPC (or each cell) with their intervals."""
    images = load_images(path, results)
    if not images:
        return []
    values, = resampled([images])
    # a mean over attacks or data sets is no number of theirs
    total = 'mPC' if 'mPC' in results['summary'] else None
    found = means(values, results['layout'], total)
    number = len(next(iter(images.values())))
    shown = [name for name in ('P', 'mPC') if name in found] + (
        [] if 'mPC' in found else [name for name in found if name != 'P'][:4])
    measured = means({(cell['name'], cell['severity']): cell['metrics'][results['metric']]
                      for cell in results['cells']
                      if (cell['name'], cell['severity']) in values}, results['layout'], total)
    texts = []
    for name in shown:
        low, high = interval(found[name])
        texts.append(f'{name} {measured[name]:.2f} [{low:.2f}, {high:.2f}]')
    return [f'{LEVEL} % intervals by bootstrap over {number} images: {", ".join(texts)}'] * bool(
        texts)


def differences(models: Sequence[tuple[str | Path, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Differences of models to the first, with paired intervals.

    Args:
        models (Sequence[tuple]): Path and content of each results file, of the same images.

    Returns:
        list[dict]: ``model``, ``name`` (P, a type over the cells that both have, mPC or, where
            not all cells are there, its part),
        ``difference``, ``low``, ``high``, and ``real``: whether zero is outside the interval.
    """
    images = [load_images(path, results) for path, results in models]
    rows = []
    for (_, results), own in list(zip(models, images, strict=True))[1:]:
        common = [key for key in own if key in images[0] and len(own[key]) == len(images[0][key])]
        if not common:
            continue
        pair = [{key: side[key] for key in common} for side in (images[0], own)]
        layout = {'': {}}
        for name, severity in common:
            if name != CLEAN:
                layout[''].setdefault(name, []).append(severity)
        whole = {(name, severity) for names in results['layout'].values()
                 for name, severities in names.items() for severity in severities or [0]}
        total = None if 'mPC' not in results['summary'] else (
            'mPC' if whole <= set(common) else PART)
        drawn = [means(values, layout, total) for values in resampled(pair)]
        once = [means({key: float(metric_of(counts, np.ones((1, len(counts))))[0])
                       for key, counts in side.items()}, layout, total) for side in pair]
        for name in drawn[0]:
            low, high = interval(drawn[1][name] - drawn[0][name])
            rows.append(dict(model=results['model'], name=name,
                             difference=once[1][name] - once[0][name], low=low, high=high,
                             real=not low <= 0 <= high))
    return rows
