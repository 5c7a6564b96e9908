"""A grid of runs from one config: each trained, then benchmarked, in processes of their own."""
import hashlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mmrobust.utils.figures import (
    COLOURS,
    MARKERS,
    SIZES,
    legend_below,
    new_figure,
    readable_metric,
    save_figure,
)
from mmrobust.utils.files import write_table, write_text_atomically
from mmrobust.utils.lock import locked
from mmrobust.utils.processes import Stopped, StopRequests, end_with_parent
from mmrobust.utils.results_file import PART, load_results
from mmrobust.utils.tables import format_table

Settings = dict[str, str]
REQUESTS = StopRequests()
ROOM = 30  # characters of labels that fit side by side below a panel


def parse_grid(arguments: Sequence[str]) -> list[Settings]:
    """All combinations of ``key=v1,v2,...`` arguments.

    A value may be a list or tuple: ``key=[1,2],[3,4]`` has two.

    Raises:
        ValueError: If an argument is no such thing, or a key or value appears twice.
    """
    axes: dict[str, list[str]] = {}
    for argument in arguments:
        key, _, text = argument.partition('=')
        values = re.findall(r'(?:\[[^\]]*\]|\([^)]*\)|[^,\[(])+', text)
        if not key or not values:
            raise ValueError(f"'{argument}' is no part of a grid: write KEY=VALUE,VALUE,..., such "
                             'as model.diversification.tau=1,2,4')
        if key in axes or len(set(values)) < len(values):
            raise ValueError(f"'{argument}' repeats a key or a value")
        axes[key] = values
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def run_name(settings: Settings) -> str:
    """A folder name that tells the settings."""
    text = '+'.join(f'{key.rsplit(".", 1)[-1]}={value}' for key, value in settings.items())
    # what differs in more than the last part of a key, or in odd characters, differs in the digest
    digest = hashlib.blake2b(json.dumps(settings).encode(), digest_size=3).hexdigest()
    return f'{re.sub(r"[^A-Za-z0-9=+._-]", "_", text)[:80]}-{digest}'


def run_ablation(tools: str | Path, config: str, grid: Sequence[Settings], benchmark: str,
                 out: str | Path, fixed: Sequence[str] = (), test_arguments: Sequence[str] = (),
                 train_arguments: Sequence[str] = ()) -> str:
    """Train and benchmark every combination; what is finished already is not done again.

    Each run has a folder in ``out``, with a log. ``ablation.csv``, ``.png`` and ``.pdf`` are
    written after every run.

    Args:
        tools (str | Path): Folder of ``train.py`` and ``test.py``.
        config (str): The config.
        grid (Sequence[dict[str, str]]): See :func:`parse_grid`.
        benchmark (str): Name of the benchmark.
        out (str | Path): Folder of the runs.
        fixed (Sequence[str]): ``key=value`` overrides of all runs.
        test_arguments, train_arguments (Sequence[str]): Further arguments of the two tools.

    Returns:
        str: The table.

    Raises:
        BlockingIOError: If another process works in ``out``.
        Stopped: If it was asked to stop; its present run has saved.
        ValueError: If the runs in ``out`` are of another study, or a run failed (the others are
            done nevertheless).
    """
    with locked(out, 'choose another --out'), _requests():
        return _run_grid(Path(tools), config, grid, benchmark, Path(out), list(fixed),
                         list(test_arguments), list(train_arguments))


@contextmanager
def _requests() -> Iterator[None]:
    REQUESTS.watch()
    try:
        yield
    finally:
        REQUESTS.forget()


def _run_grid(tools: Path, config: str, grid: Sequence[Settings], benchmark: str, out: Path,
              fixed: list[str], test_arguments: list[str], train_arguments: list[str]) -> str:
    _check_same_study(out, dict(config=str(config), benchmark=benchmark, fixed=fixed,
                                test=test_arguments, train=train_arguments))
    failed = []
    with tqdm(grid, desc='ablation', unit='run') as progress:
        for settings in progress:
            folder = out / run_name(settings)
            progress.set_postfix_str(folder.name)
            options = ['--cfg-options', *fixed, *(f'{k}={v}' for k, v in settings.items())]
            try:
                if not (folder / 'trained').exists():
                    _call([Path(tools, 'train.py'), config, '--work-dir', folder, '--resume',
                           *train_arguments, *options], folder)
                    write_text_atomically(folder / 'trained', '')
                if not _finished(folder):
                    _call([Path(tools, 'test.py'), config, folder, '--work-dir', folder,
                           '--benchmark', benchmark, *test_arguments, *options], folder)
            except subprocess.CalledProcessError:
                failed.append(folder / 'ablation.log')
            table = _collect(out, grid)
    if failed:
        raise ValueError(f'{len(failed)} of {len(grid)} runs failed, see '
                         f'{", ".join(map(str, failed))}: the same command tries them again. The '
                         f'first one says: {_last_line(failed[0])}')
    return table


def _last_line(log: Path) -> str:
    lines = log.read_text(errors='replace').split('\n')
    return next((line.strip() for line in reversed(lines) if line.strip()), 'nothing')


def _check_same_study(out: Path, study: dict[str, Any]) -> None:
    path = out / 'ablation.json'
    if path.exists() and json.loads(path.read_text()) != study:
        raise ValueError(f'{out} holds runs with another config, benchmark or overrides: choose '
                         'another --out')
    write_text_atomically(path, json.dumps(study, indent=1))


def _call(arguments: Sequence[Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, *map(str, arguments)]
    with open(folder / 'ablation.log', 'a') as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, preexec_fn=end_with_parent,
            env={**os.environ, 'MMROBUST_STOP_STATUS': str(os.EX_TEMPFAIL)})
        told = False
        while (status := process.poll()) is None:
            if REQUESTS.pending and not told:
                process.send_signal(signal.SIGTERM)  # it saves what it has
                told = True
            with suppress(subprocess.TimeoutExpired):
                process.wait(.2)
    if REQUESTS.pending or status == os.EX_TEMPFAIL:
        print(f'Stopped on request within {folder}: the same command goes on.', file=sys.stderr)
        raise Stopped
    if status:
        raise subprocess.CalledProcessError(status, command)


def _results_path(folder: Path) -> Path | None:
    """The only results file of a run: a study has one benchmark."""
    return next(folder.glob('*/results.json'), None)


def _results(folder: Path) -> dict[str, Any] | None:
    path = _results_path(folder)
    return path and load_results(path)


def _finished(folder: Path) -> bool:
    results = _results(folder)
    if results is None:
        return False
    # a part of the benchmark is complete once test.py has written the table of it
    return (results['finished'] == results['expected']
            or _results_path(folder).with_name('results.csv').exists())


def _collect(out: Path, grid: Sequence[Settings]) -> str:
    """Write the table and the figure of the runs that are finished so far."""
    rows, title = [], ''
    for settings in grid:
        results = _results(out / run_name(settings))
        rows.append(dict(settings, **_numbers(results)))
        if results is not None:
            label = readable_metric(results['summary'].get('label', results['metric']))
            title = f'{results["benchmark"]}, {label}'.rstrip(', ')
    metrics = list(dict.fromkeys(key for row in rows for key in row if key not in grid[0]))
    rows = [{key: row.get(key) for key in (*grid[0], *metrics)} for row in rows]
    write_table(out / 'ablation.csv', rows)
    if metrics:
        _draw(rows, list(grid[0]), metrics, title, out / 'ablation.png')
    text = [[key.rsplit('.', 1)[-1] for key in rows[0]],
            *([f'{value:.2f}' if isinstance(value, float) else '-' if value is None else value
               for value in row.values()] for row in rows)]
    return format_table(text, text_columns=0)


def _numbers(results: Mapping[str, Any] | None) -> dict[str, float]:
    """Clean performance and the mean under corruption, of the finished cells where it is a part.

    Where a benchmark has no such mean, each of its rows.
    """
    if results is None:
        return {}
    summary = results['summary']
    numbers = {key: value for key, value in summary.items() if isinstance(value, float)}
    partial = numbers.pop('mPC_finished', None)
    if partial is not None and 'mPC' not in numbers:
        numbers[PART] = partial
    if not numbers.keys() - {'P'}:  # attacks, masks and data sets have no mean over them
        numbers |= {key: value for key, value in summary.get('types', {}).items()
                    if value is not None}
    return numbers


def _is_ordered(values: Sequence[str]) -> bool:
    """Whether a line between them means something."""
    return all(re.fullmatch(r'[-+]?[\d.]+(e[-+]?\d+)?', value, re.I) for value in values)


def _draw(rows: list[dict[str, Any]], keys: list[str], metrics: list[str], title: str, path: Path
          ) -> None:
    """The first key along x, a line for each combination of the others, a panel per metric."""
    first, *others = keys
    values = list(dict.fromkeys(row[first] for row in rows))
    lines = list(dict.fromkeys(tuple(row[key] for key in others) for row in rows))
    figure, axes = new_figure(2.6 * len(metrics) + 0.4, 2.7, columns=len(metrics))
    for axis, metric in zip(axes[0], metrics, strict=True):
        for i, line in enumerate(lines):
            points = [(values.index(row[first]), row[metric]) for row in rows
                      if tuple(row[key] for key in others) == line and row[metric] is not None]
            label = ', '.join(f'{key.rsplit(".", 1)[-1]} {value}'
                              for key, value in zip(others, line, strict=True))
            if points:
                axis.plot(*zip(*points, strict=True), color=COLOURS[i % len(COLOURS)],
                          linestyle='-' if _is_ordered(values) else '',
                          marker=MARKERS[i % len(MARKERS)], markersize=4, linewidth=1.3,
                          label=label)
        axis.set_title(metric.replace('_', ' '), fontsize=SIZES['title'])
        axis.set_xlabel(first.rsplit('.', 1)[-1].replace('_', ' '), fontsize=SIZES['label'])
        labels = [re.sub(r"^dict\(|\)$|'", '', value) for value in values]
        axis.set_xticks(range(len(values)), labels, **(
            dict(rotation=25, ha='right', rotation_mode='anchor')
            if max(map(len, labels)) * len(labels) > ROOM else {}))
        axis.margins(x=0.1)
    figure.suptitle(title, fontsize=SIZES['title'])
    if others:
        legend_below(figure, axes[0, 0].get_legend_handles_labels()[0], 4)
    save_figure(figure, path)
