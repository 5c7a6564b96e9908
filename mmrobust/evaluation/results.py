"""The results file of a benchmark: one model, every finished cell, and their summary."""
import json
import math
import numbers
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmrobust.utils.files import write_rows, write_table, write_text_atomically
from mmrobust.utils.results_file import FORMAT, differences, load_results, seal

from .protocols import Cell, Protocol
from .summaries import SUMMARIES, for_classes

# Names of main metrics, the first that is there wins; otherwise the first metric of all.
MAIN_METRICS = ('all_images_together/mIoU', 'mIoU', 'accuracy/top1', 'coco/bbox_mAP', 'mAP',
                'mDice', 'aAcc')

# how many images of a cell an attack left as they were; there only if it left any
UNMOVED = 'images_without_gradient'


class ResultsMismatchError(ValueError):
    """A results file that belongs to other weights, another config or another protocol."""


def plain_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers (and lists of numbers) among metrics, as JSON knows them; NaN becomes None."""
    def convert(value: Any) -> Any:
        if hasattr(value, 'tolist'):  # NumPy and torch, scalars and arrays
            value = value.tolist()
        if isinstance(value, (list, tuple)):
            return [convert(item) for item in value]
        if isinstance(value, numbers.Integral):
            return int(value)
        if isinstance(value, numbers.Real):
            # seven digits: what float32 holds, without the tail that float64 would show
            return float(f'{value:.7g}') if math.isfinite(value) else None
        return NotImplemented

    converted = {name: convert(value) for name, value in metrics.items()}
    return {name: value for name, value in converted.items() if value is not NotImplemented}


def main_metric(metrics: Mapping[str, Any], wanted: str | None = None) -> str:
    """The metric that tables and plots show.

    Raises:
        ValueError: If the wanted one is not there, or there is none.
    """
    names = [name for name, value in metrics.items() if not isinstance(value, list)]
    if wanted is not None:
        if wanted not in names:
            raise ValueError(f'the evaluator reports no metric {wanted!r}: '
                             f'choose from {", ".join(names) or "none"}.')
        return wanted
    if not names:
        raise ValueError('the evaluator reports no metric: add one to test_evaluator.')
    for main in MAIN_METRICS:
        for name in names:
            if name == main or name.endswith('/' + main):
                return name
    return names[0]


class Results:
    """Finished cells of one model on one protocol, kept in a file.

    Args:
        protocol (Protocol): The protocol.
        path (str | Path): The results file, ``.../results.json``.
        model (str): What tables call the model.
        identity (dict): All that decides the results, see :mod:`.fingerprint`.
        metric (str, optional): The metric to show. Defaults to the evaluator's main one.
    """

    def __init__(self, protocol: Protocol, path: str | Path, model: str,
                 identity: dict[str, Any], metric: str | None = None) -> None:
        self.protocol = protocol
        self.path = Path(path)
        self.model = model
        self.identity = identity
        self._metric = metric
        self.cells: dict[tuple[str, int], dict[str, Any]] = {}
        self.sources: dict[tuple[str, int], str | None] = {}
        self.measures: dict[tuple[str, int], dict[str, Any]] = {}
        self.classes: list[str] = []  # names, as far as anything was measured by class
        self._stored_model = model

    def resume(self) -> None:
        """Take over the finished cells of the file, if there is one.

        Raises:
            ResultsMismatchError: If it is another model's, config's or protocol's.
            ValueError: If it is no results file.
        """
        if not self.path.exists():
            return
        stored = load_results(self.path)
        self._stored_model = stored['model']
        if stored['benchmark'] != self.protocol.name:
            other = [f'the benchmark is {self.protocol.name} instead of {stored["benchmark"]}']
        else:
            other = differences(stored['identity'], self.identity)
        if other:
            raise self._mismatch('; '.join(other))
        self.cells = {(cell['name'], cell['severity']): cell['metrics']
                      for cell in stored['cells']}
        self.sources = {(cell['name'], cell['severity']): cell.get('source')
                        for cell in stored['cells']}
        self.measures = {(cell['name'], cell['severity']): cell.get('measures', {})
                         for cell in stored['cells']}
        self.classes = stored.get('classes', [])
        if unknown := [key for key in self.cells if key not in
                       {cell.key for cell in self.protocol.cells}]:
            raise self._mismatch(f'it has {unknown[0][0]}, severity {unknown[0][1]}, which is '
                                 f'none of this benchmark')

    def check_sources(self, sources: Mapping[tuple[str, int], str | None]) -> None:
        """Make sure that the images of finished cells would be the same today.

        Raises:
            ResultsMismatchError: If those of a cell would be others.
        """
        for cell in self.protocol.cells:
            if cell.key in self.cells and cell.key in sources and (
                    self.sources.get(cell.key) != sources[cell.key]):
                raise self._mismatch(
                    f'{cell} was made of other pixels: another version of mmrobust or of a '
                    f'library under it' if cell.corruption else
                    f'the images of {cell} were others')

    def _mismatch(self, what: str) -> ResultsMismatchError:
        return ResultsMismatchError(
            f'{self.path} holds results of {self._stored_model} that do not belong to this '
            f'run: {what}. Choose another output folder (out_dir) or remove the file.')

    def add(self, cell: Cell, metrics: Mapping[str, Any], source: str | None = None,
            measures: Mapping[str, Any] | None = None) -> None:
        """Keep the metrics of a cell, what its images were made of, and further measures."""
        self.cells[cell.key] = plain_metrics(metrics)
        self.measures[cell.key] = plain_metrics(measures or {})
        self.sources[cell.key] = source

    def check_metric(self) -> None:
        """Raise ValueError unless the wanted metric is among those of the cells."""
        main_metric(next(iter(self.cells.values())), self._metric)

    @property
    def metric(self) -> str:
        """The metric to show: the wanted one, as far as it is there."""
        metrics = next(iter(self.cells.values()))
        try:
            return main_metric(metrics, self._metric)
        except ValueError:
            return main_metric(metrics)

    def as_dict(self) -> dict:
        """The content of the file. It depends on the results only, not on when and how they
        were gathered."""
        expected = [cell.key for cell in self.protocol.cells]
        # the budget of an attack belongs to its number; where files lie does not
        attacks = {cell.key: {key: value for key, value in cell.attack.items()
                              if key != 'chosen_by'}
                   for cell in self.protocol.cells if cell.attack}
        finished = [key for key in expected if key in self.cells]
        metrics = any(self.cells.values())
        summary = self._summary() if metrics else {}
        return seal(dict(
            format=FORMAT, benchmark=self.protocol.name, model=self.model,
            metric=self.metric if metrics else None,
            finished=len(finished), expected=len(expected), identity=self.identity,
            layout=self.protocol.layout(), classes=self.classes,
            summary=summary,
            cells=[dict(heading=self.protocol.heading(name), name=name, severity=severity,
                        source=self.sources.get((name, severity)),
                        metrics=self.cells[name, severity],
                        measures=self.measures.get((name, severity), {}),
                        **(dict(attack=attacks[name, severity]) if (name, severity) in attacks
                           else {}))
                   for name, severity in finished]))

    def _summary(self) -> dict:
        summary = for_classes(
            SUMMARIES[self.protocol.summary](self.protocol, self.cells, self.metric),
            self.identity.get('data', {}).get('classes'))
        notes = [f'{name}: the gradient of {metrics[UNMOVED]} images was exactly zero, so that '
                 f'the attack could not work on them: no sign of robustness'
                 for (name, _), metrics in self.cells.items() if metrics.get(UNMOVED)]
        return {**summary, 'notes': [*summary.get('notes', ()), *notes]} if notes else summary

    def write(self) -> None:
        """Write the file in one step."""
        write_text_atomically(self.path, json.dumps(self.as_dict(), indent=1) + '\n')


def write_csv(results: Mapping[str, Any], path: str | Path) -> None:
    """Write a results file's cells as a table with one row per cell."""
    cells = results['cells']
    values = [{**cell['metrics'], **cell.get('measures', {})} for cell in cells]
    metrics = list(dict.fromkeys(name for own in values for name, value in own.items()
                                 if not isinstance(value, list)))
    write_rows(path, [
        ['benchmark', 'model', 'heading', 'name', 'severity', *metrics],
        *([results['benchmark'], results['model'], cell['heading'], cell['name'],
           cell['severity'], *(own.get(name) for name in metrics)]
          for cell, own in zip(cells, values, strict=True))])


def write_per_class(results: Mapping[str, Any], path: str | Path) -> None:
    """Write what a results file holds of every class, with a row for each cell and class."""
    rows = []
    for cell in results['cells']:
        measures = {name.removeprefix('per_class/'): values for name, values in
                    cell.get('measures', {}).items() if name.startswith('per_class/')}
        for i, values in enumerate(zip(*measures.values(), strict=True)):
            names = results.get('classes') or ()
            rows.append({'benchmark': results['benchmark'], 'model': results['model'],
                         'name': cell['name'], 'severity': cell['severity'],
                         'class': names[i] if i < len(names) else i,
                         **dict(zip(measures, values, strict=True))})
    if rows:
        write_table(path, rows)
