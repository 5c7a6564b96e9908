"""From the results of single cells to the numbers of a benchmark.

P is the performance on clean data, mPC the mean performance under corruption (mean over the
severities of a type, then over types), rPC = mPC / P (Michaelis et al., 2019). Nothing that is
missing counts as zero: a mean exists once everything that belongs to it is finished.
"""
from collections.abc import Callable, Iterable, Mapping
from statistics import fmean

from mmrobust.corruptions.severities import LEVELS

from .draws import spread
from .metrics.corruption_error import ALEXNET_ERROR, corruption_error
from .protocols import CLEAN, Protocol

IMAGENET_CLASSES = 1000
AS_IN_PAPERS = "mean of the four conditions (papers' tables)"
AS_THE_SERVER = 'all images together (evaluation server)'
RAW_FLIP_PROBABILITY = 'mean flip probability (raw, no baseline given)'
Cells = Mapping[tuple[str, int], Mapping[str, float | None]]
"""(name, severity) of each finished cell to its metrics."""


def _mean(values: Iterable[float | None]) -> float | None:
    values = list(values)
    return fmean(values) if values and None not in values else None


def corruption(protocol: Protocol, cells: Cells, metric: str) -> dict:
    """P, mPC, rPC and the mean of every type and heading.

    Args:
        protocol (Protocol): The protocol.
        cells (Mapping): The finished cells.
        metric (str): The metric to average.

    Returns:
        dict: ``P``, ``mPC``, ``rPC`` (None until complete), ``mPC_finished`` (over the finished
        cells only), ``types`` and ``headings`` with their means (None until complete).
    """
    values = {key: metrics.get(metric) for key, metrics in cells.items()}
    expected: dict[str, list[tuple[str, int]]] = {}
    for cell in protocol.cells:
        if cell.name != CLEAN:
            expected.setdefault(cell.name, []).append(cell.key)
    types = {name: _mean(map(values.get, keys)) for name, keys in expected.items()}
    partial = [fmean(have) for keys in expected.values()
               if (have := [v for v in map(values.get, keys) if v is not None])]
    clean, mean = values.get((CLEAN, 0)), _mean(types.values())
    return dict(
        P=clean, mPC=mean, rPC=mean / clean if mean is not None and clean else None,
        mPC_finished=fmean(partial) if partial else None, types=types,
        headings={heading: _mean(map(types.get, names))
                  for heading, names in protocol.headings.items()})


def _top1(cells: Cells, metric: str) -> str | None:
    """The name of the top-1 accuracy among the metrics of the finished cells."""
    names = [metric, *(name for metrics in cells.values() for name in metrics)]
    return next((name for name in names if name.rpartition('/')[2] == 'top1'), None)


def _without_top1(total: str, cells: Cells) -> str:
    there = ', '.join(dict.fromkeys(name for metrics in cells.values() for name in metrics))
    return (f'no {total}: it is made of top-1 accuracies, the evaluator reports {there}; add '
            f"dict(type='Accuracy', topk=(1, 5))")


def for_classes(summary: dict, classes: int | None) -> dict:
    """A summary without what is relative to AlexNet, where the classes are not ImageNet's."""
    if 'corruption_errors' not in summary or classes in (None, IMAGENET_CLASSES):
        return summary
    left = {key: value for key, value in summary.items()
            if key != 'corruption_errors' and not key.startswith('mCE')}
    return {**left, 'notes': [
        f"no mCE: it is relative to AlexNet's errors on ImageNet's {IMAGENET_CLASSES} classes, "
        f'the data set has {classes}']}


def mean_error(protocol: Protocol, cells: Cells, metric: str) -> dict:
    """The same with the mean error 100 - mPC, in percent, that CIFAR-10-C reports."""
    summary = corruption(protocol, cells, metric)
    if (top1 := _top1(cells, metric)) is None:
        return {**summary, 'notes': [_without_top1('mean error', cells)]}
    mean = corruption(protocol, cells, top1)['mPC']
    return {**summary, 'mean_error': None if mean is None else 100 - mean}


def corruption_errors(protocol: Protocol, cells: Cells, metric: str) -> dict:
    """The same with the corruption error of each type and mCE, relative to AlexNet's.

    ``mCE_without_noise`` is the mean over the twelve types that are no noise, for models that
    were trained with noise (the AFAT paper's "IN-C without noise").
    """
    summary = corruption(protocol, cells, metric)
    if (top1 := _top1(cells, metric)) is None:
        return {**summary, 'notes': [_without_top1('mCE', cells)]}
    means = corruption(protocol, cells, top1)['types']
    errors = {name: None if means.get(name) is None
              else corruption_error(name, [100 - cells[name, s][top1] for s in LEVELS])
              for name in ALEXNET_ERROR}
    noise = protocol.headings.get('noise', ())
    quiet = [error for name, error in errors.items() if name not in noise]
    return {**summary, 'corruption_errors': errors, 'mCE': _mean(errors.values()),
            'mCE_without_noise': _mean(quiet)}


def plain(protocol: Protocol, cells: Cells, metric: str) -> dict:
    """Only values: P, and of each cell, or of its parts where one evaluation reports several.

    Parts are metrics of the same last name: ``fog/mIoU``, ``night/mIoU``, ...
    """
    last = metric.rsplit('/', 1)[-1]
    types: dict[str, float | None] = {}
    for cell in protocol.cells:
        if cell.name == CLEAN:
            continue
        parts = {name.rsplit('/', 1)[0]: value for name, value in cells.get(cell.key, {}).items()
                 if '/' in name and name.rsplit('/', 1)[-1] == last}
        if len(parts) > 1:
            types |= parts
        else:
            types[cell.name] = cells.get(cell.key, {}).get(metric)
    clean = cells.get((CLEAN, 0), {}).get(metric)
    return dict(types=types) if clean is None else dict(P=clean, types=types)


def conditions(protocol: Protocol, cells: Cells, metric: str) -> dict:
    """Each condition of ACDC, and both means that go by its name."""
    summary = plain(protocol, cells, metric)
    values = summary['types']
    return {**summary, AS_IN_PAPERS: values.get('mean_of_conditions'),
            AS_THE_SERVER: values.get('all_images_together'), 'label': metric.rsplit('/', 1)[-1]}


def every_metric(protocol: Protocol, cells: Cells, metric: str) -> dict:
    """All metrics of each cell, with P where one is the config's own clean test."""
    types = {f'{cell.name}: {name}': value for cell in protocol.cells if cell.name != CLEAN
             for name, value in cells.get(cell.key, {}).items()}
    return dict(P=cells.get((CLEAN, 0), {}).get(metric), types=types, label='')


def flip_rate(protocol: Protocol, cells: Cells, metric: str) -> dict:
    """Flip rate of each perturbation and mFR, or without a baseline the raw probabilities."""
    videos = [cell for cell in protocol.cells
              if cell.evaluator and cell.evaluator['type'] == 'FlipProbability']
    raw = not all(cell.evaluator['baseline'] for cell in videos)
    value, total = (('flip/probability', RAW_FLIP_PROBABILITY) if raw else ('flip/rate', 'mFR'))
    types = {cell.name: cells.get(cell.key, {}).get(value) for cell in videos}
    return {'types': types, total: _mean(types.values()), 'label': value}


def robustness(protocol: Protocol, cells: Cells, metric: str) -> dict:
    """One number for each of ImageNet's test sets, as in the TAP & ADL paper's table 2."""
    def single(name: str, metric: str) -> float | None:
        return cells.get((name, 0), {}).get(metric)

    flips = flip_rate(protocol, cells, metric)
    total = RAW_FLIP_PROBABILITY if RAW_FLIP_PROBABILITY in flips else 'mFR'
    columns = {
        'imagenet-p': (f'ImageNet-P {total}', flips[total]),
        'imagenet-a': ('ImageNet-A top-1 of 200 classes',
                       single('imagenet-a', 'accuracy/top1_of_200')),
        'imagenet-r': ('ImageNet-R top-1 of 200 classes',
                       single('imagenet-r', 'accuracy/top1_of_200')),
        'imagenet-sketch': ('ImageNet-Sketch top-1', single('imagenet-sketch', 'accuracy/top1')),
    }
    there = {cell.name.split('/')[0] for cell in protocol.cells}
    types = {'ImageNet-C mCE': corruption_errors(protocol, cells, metric).get('mCE'),
             **dict(column for name, column in columns.items() if name in there)}
    return dict(P=single(CLEAN, metric), types=types, label='')


SUMMARIES: dict[str, Callable[[Protocol, Cells, str], dict]] = dict(
    corruption=corruption, corruption_error=corruption_errors, mean_error=mean_error, plain=plain,
    every_metric=every_metric, flip_rate=flip_rate, robustness=robustness, spread=spread,
    conditions=conditions)
"""Name in :attr:`Protocol.summary` to the function that makes it."""
