"""The test loop that runs a robustness benchmark."""
import copy
import math
import os.path as osp
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import zip_longest
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from mmengine.dist import all_gather_object, broadcast_object_list, get_world_size, is_main_process
from mmengine.evaluator import DumpResults, Evaluator
from mmengine.registry import DATASETS, LOOPS, TASK_UTILS
from mmengine.runner import Runner, TestLoop
from torch.utils.data import DataLoader

from mmrobust.datasets.completeness import missing_data
from mmrobust.datasets.decoded_images import free_room
from mmrobust.datasets.labels import check_batch, ignored_labels
from mmrobust.datasets.pipeline import leaves
from mmrobust.datasets.subset import check_samples
from mmrobust.utils.files import write_table
from mmrobust.utils.lock import locked

from .draws import draw_rows
from .fingerprint import identity, source
from .intervals import image_file, interval_sentences, write_images
from .metrics.measures import PREFIX, RobustnessMeasures, lacks_probabilities
from .pictures import PredictionPictures
from .pipeline_switch import PipelineSwitch, for_prepared
from .plots import plot_results
from .preflight import Preflight
from .progress import Progress, quiet_console
from .protocols import Cell, get_protocol
from .results import UNMOVED, Results, write_csv, write_per_class
from .tables import number, results_table

FEW_DATASETS = 4
DEFAULT_SAMPLER = dict(type='DefaultSampler', shuffle=False)


@LOOPS.register_module(force=True)
class CorruptionTestLoop(TestLoop):
    """Test on every cell of a robustness protocol, keeping each as soon as it is finished.

    It takes the config's own test data, pipeline and metrics, and changes only what a cell says.
    ``results.json``, ``results.csv`` and ``results.png`` land in ``out_dir``. Run again, it goes
    on with the first unfinished cell.

    Args:
        runner (Runner): The runner.
        dataloader (DataLoader or dict): The config's test data loader.
        evaluator (Evaluator or dict or list): The config's test evaluator.
        protocol (str): Name of the benchmark, see
            :func:`mmrobust.evaluation.protocols.get_protocol`.
        corruptions (str | Iterable[str], optional): Run only these types, groups or cells.
        severities (int | Sequence[int], optional): Run only these severities.
        model_name (str, optional): What tables call the model. Defaults to the config's name.
        metric (str, optional): The metric that table and plot show. Defaults to the evaluator's
            main one.
        out_dir (str, optional): Defaults to ``<work_dir>/<protocol>``.
        show_dir (str, optional): Keep pictures of predictions here, one folder per cell.
        show_interval (int): Keep the picture of every n-th batch.
        predictions (str, optional): Keep the predictions of every cell here, with the scores, as
            ``<name>_<severity>.pkl``. A finished cell without that file runs again.
        measures (bool): Also keep per-class results, calibration and failure detection of every
            cell, see :class:`RobustnessMeasures`. Defaults to True.
        image_cache (float): GiB of the folder of temporary files, at most half of what is free,
            in which decoded images are kept from cell to cell; 0 decodes them in every cell.
        subset (int | str, optional): Test on so many images, the same ones in every cell, drawn
            by their names, or on those that a text file names (see :class:`NamedSubset`).
        subset_seed (int): Draws other ones.
        fp16 (bool): Test under autocast.
        **options: Options of the protocol, such as ``corrupted_root``, ``seed``, ``data_root``.

    Raises:
        ValueError: If a name, an option or a severity is unknown.
        FileNotFoundError: If the ready-made images of a cell are missing.
        ResultsMismatchError: If the results file belongs to other weights or settings.

    What does not fit (data, model, metrics, attacks) is said before the first cell, see
    :mod:`.preflight`.
    """

    def __init__(self,
                 runner: Runner,
                 dataloader: DataLoader | dict,
                 evaluator: Evaluator | dict | list,
                 protocol: str,
                 corruptions: str | Iterable[str] | None = None,
                 severities: int | Sequence[int] | None = None,
                 model_name: str | None = None,
                 metric: str | None = None,
                 out_dir: str | None = None,
                 show_dir: str | None = None,
                 show_interval: int = 1,
                 predictions: str | None = None,
                 measures: bool = True,
                 image_cache: float = 8.,
                 subset: int | str | None = None,
                 subset_seed: int = 0,
                 fp16: bool = False,
                 **options: Any) -> None:
        self.protocol = get_protocol(protocol, corruptions, severities, **options)
        self.out_dir = out_dir or osp.join(
            runner.work_dir, self.protocol.name.replace(',', '+').replace(' ', ''))
        self._model_name = model_name
        self._metric = metric
        if subset is not None:
            check_samples(subset)
            if not isinstance(dataloader, dict):
                raise ValueError(f'subset={subset} needs the test_dataloader as a dict: give '
                                 'fewer samples instead, such as torch.utils.data.Subset')
        self._subset = subset, subset_seed
        if not isinstance(image_cache, (int, float)) or not 0 <= image_cache < math.inf:
            raise ValueError(f'image_cache={image_cache}: give the GiB that decoded images may '
                             'take, such as 8, or 0 to decode them in every cell')
        self._room = image_cache * 2 ** 30
        self._given = dataloader, evaluator
        pictures = PredictionPictures(show_dir or '', show_interval)  # which looks at the interval
        self._pictures = pictures if show_dir else None
        if show_dir:
            runner.register_hook(pictures)
        self._predictions = predictions
        self._measures = measures
        self._attack = None
        self._said_lacking = self._said_full = False
        self._attacks = {cell.key: TASK_UTILS.build(cell.attack)
                         for cell in self.protocol.selected if cell.attack is not None}
        if is_main_process():
            self._check_datasets()
        first = self.protocol.selected[0]
        super().__init__(runner, *self._configs(first), fp16)
        self._note_built(first)
        if is_main_process():
            self._switch.check_folders(self.protocol.selected)

    def run(self) -> dict:
        """Run the unfinished cells.

        Returns:
            dict: The numbers of the summary, such as P, mPC and rPC.

        Raises:
            BlockingIOError: If another process works in ``out_dir``.
        """
        with locked(self.out_dir, 'name another --work-dir') if is_main_process() \
                else nullcontext():
            return self._run_cells()

    def _run_cells(self) -> dict:
        results = self._open_results()
        todo = [cell for cell in self.protocol.selected
                if cell.key not in results.cells or self._lacks_predictions(cell)]
        finished = len(self.protocol.selected) - len(todo)
        self.runner.logger.info(
            f'{self.protocol.name}: {finished} of {len(self.protocol.selected)} cells are '
            f'finished, results in {self.out_dir}')
        Preflight(self).check(todo)
        self._progress = Progress(self.runner.logger, len(todo))
        for cell in todo:
            self._enter(cell)
            self._progress.enter(cell, len(self.dataloader))
            with quiet_console(self.runner.logger), self._keeping_predictions(cell), \
                    self._measuring() as measuring:
                metrics = super().run()
            metrics = {name: value for name, value in metrics.items()
                       if not name.startswith(f'{PREFIX}/')}
            measures = {**(measuring.measures if measuring else {}), **self._recorded()}
            if metrics:
                metrics = {**metrics, **self._unmoved()}
            main = is_main_process()
            results.add(cell, metrics, source(cell, self.dataloader.dataset) if main else None,
                        measures)
            if 'per_class/accuracy' in measures:
                names = (self.evaluator.dataset_meta or {}).get('classes') or ()
                results.classes = list(map(str, names))
            if main:
                if measuring and measuring.per_image is not None:
                    write_images(image_file(self.out_dir, *cell.key), measuring.per_image)
                results.write()
            if metrics:
                results.check_metric()  # the cell is kept, whatever its metric is called
            self._tell_full()
            value = results.cells[cell.key].get(results.metric) if metrics else None
            self._progress.leave('' if value is None else f'{results.metric} {number(value)}')
        return self._report(results)

    def _of_attack(self, name: str, fill: Any) -> list:
        """What an attack noted of every image.

        Samplers give several processes some images twice, so that all have as many.
        """
        parts = all_gather_object(getattr(self._attack, name, []))
        ordered = [noted for step in zip_longest(*parts, fillvalue=fill) for noted in step]
        return ordered[:len(self.dataloader.dataset)]

    def _unmoved(self) -> dict[str, int]:
        """How many images an attack had no gradient for, where there are any."""
        count = sum(self._of_attack('unmoved', False))
        return {UNMOVED: count} if count else {}

    def _recorded(self) -> dict[str, float]:
        """Means over the images of what an attack noted of them, and its own summary."""
        noted = [own for own in self._of_attack('records', None) if own]
        found = {name: fmean(own[name] for own in noted) for name in (noted[0] if noted else ())}
        counts = [own for own in self._of_attack('counts', None) if own is not None]
        if counts:
            found |= self._attack.summary(counts)
        return {f'attack/{name}': value for name, value in found.items()}

    def _predictions_of(self, cell: Cell) -> Path:
        name = cell.name.replace('/', '_') + (f'_{cell.severity}' if cell.severity else '')
        return Path(self._predictions, f'{name}.pkl')

    def _lacks_predictions(self, cell: Cell) -> bool:
        """The same on every rank, whose disks may differ."""
        lacks = [self._predictions is not None and not self._predictions_of(cell).exists()]
        broadcast_object_list(lacks)
        return lacks[0]

    @contextmanager
    def _keeping_predictions(self, cell: Cell) -> Iterator[None]:
        """Let the evaluator write what the model predicts; complete, or not at all."""
        if self._predictions is None:
            yield
            return
        path = self._predictions_of(cell)
        unfinished = path.with_name(f'.unfinished-{path.name}')
        path.parent.mkdir(parents=True, exist_ok=True)
        own = self.evaluator.metrics
        self.evaluator.metrics = [*own, DumpResults(out_file_path=str(unfinished))]
        try:
            yield
            if is_main_process():
                unfinished.replace(path)
        finally:
            self.evaluator.metrics = own

    @contextmanager
    def _measuring(self) -> Iterator[RobustnessMeasures | None]:
        """Let the evaluator also report the measures, unless its metric has rules of its own."""
        own = self.evaluator.metrics
        if not self._measures or not all(getattr(metric, 'measurable', True) for metric in own):
            yield None
            return
        lacking = lacks_probabilities(self.runner.model)
        if lacking and not self._said_lacking:
            self._said_lacking = True
            self.runner.logger.info(f'no calibration and failure detection: {lacking}')
        ignored = ignored_labels(self.runner.model, own)
        measures = RobustnessMeasures(min(ignored, default=-1), confidences=lacking is None)
        measures.dataset_meta = self.evaluator.dataset_meta
        self.evaluator.metrics = [*own, measures]
        try:
            yield measures
        finally:
            self.evaluator.metrics = own

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: Any) -> None:
        """One batch, attacked first where the cell says so."""
        check_batch(self.runner.model, data_batch, self.evaluator.metrics)
        if self._attack is not None:
            model = getattr(self.runner.model, 'module', self.runner.model)
            data_batch = self._attack(model, data_batch)
        super().run_iter(idx, data_batch)
        self._progress.step(idx + 1)

    def _configs(self, cell: Cell) -> tuple[Any, Any]:
        """What the data loader and the evaluator of the cell are built from."""
        dataloader, evaluator = self._given
        if isinstance(dataloader, dict):
            # workers that outlive a cell would go on reading the old one
            dataloader = {**dataloader, 'persistent_workers': False}
            dataloader['dataset'] = self._dataset_of(cell)
            if cell.dataset is not None:
                dataloader.update(copy.deepcopy(cell.dataloader or {}))
        elif cell.dataset is not None or dataloader.persistent_workers:
            raise ValueError(f'{self.protocol.name} changes what the data loader reads: give the '
                             f'Runner test_dataloader as a dict.')
        if cell.evaluator is not None:
            evaluator = copy.deepcopy(cell.evaluator)
        return dataloader, evaluator

    def _note_built(self, cell: Cell) -> None:
        self._built = _needs(cell)
        cells = sum(_needs(other) == self._built for other in self.protocol.selected)
        room = min(self._room, free_room())  # of all processes of this machine, or more
        self._switch = PipelineSwitch(
            self.dataloader.dataset, room / get_world_size() if cells > 1 else 0.)

    def _tell_full(self) -> None:
        if not self._said_full and self._switch.full:
            self._said_full = True
            self.runner.logger.info(
                'not all decoded images fit into the temporary files that may be written '
                f'({self._switch.room / 2 ** 30:.2g} GiB of {tempfile.gettempdir()}): the others '
                'are decoded in every cell; image_cache and TMPDIR give more room')

    def _dataset_of(self, cell: Cell | None) -> dict:
        """Config of a cell's data set, or of the config's own, cut to the subset."""
        own = self._given[0]['dataset']
        config = own if cell is None or cell.dataset is None else replace_dataset(own, cell)
        samples, seed = self._subset
        return config if samples is None else dict(
            type='NamedSubset', dataset=config, samples=samples, seed=seed)

    def _check_datasets(self) -> None:
        """Let the data sets of all cells say what is missing, without reading them."""
        for cell in self.protocol.selected:
            if cell.dataset is not None:
                if problems := list(missing_data(cell.dataset)):
                    raise FileNotFoundError(
                        f'{"; ".join(problems)}, or name the folder of {self.protocol.name} with '
                        f'--benchmark-options data_root=...')
                DATASETS.build(dict(copy.deepcopy(cell.dataset), lazy_init=True))

    def _enter(self, cell: Cell) -> None:
        if _needs(cell) != self._built:
            built = TestLoop(self.runner, *self._configs(cell), self.fp16)
            self.dataloader, self.evaluator = built.dataloader, built.evaluator
            self._note_built(cell)
        self._switch.switch(cell)
        self._attack = self._attacks.get(cell.key)
        if self._pictures is not None:
            self._pictures.enter(cell)

    def _open_results(self) -> Results:
        """The same results, or the same error, on every rank."""
        opened: list[Any] = [None]
        if is_main_process():
            results = Results(
                self.protocol, osp.join(self.out_dir, 'results.json'),
                model=self._model_name or Path(
                    getattr(self.runner.cfg, 'filename', None) or 'model').stem,
                identity=self._identity(), metric=self._metric)
            try:
                results.resume()
                results.check_sources(dict(self._finished_sources(results)))
                opened = [results]
            except (ValueError, OSError) as error:
                opened = [error]
        broadcast_object_list(opened)
        if isinstance(opened[0], Exception):
            raise opened[0]
        return opened[0]

    def _identity(self) -> dict:
        """All that decides the results, of what was built."""
        dataset, evaluator = self.dataloader.dataset, None
        own_data = any(cell.dataset is None for cell in self.protocol.cells)
        if own_data and self._built[0] is not None:
            dataset = DATASETS.build(copy.deepcopy(self._dataset_of(None)))
        if any(cell.evaluator is None for cell in self.protocol.cells):
            evaluator = self._given[1]
            if not isinstance(evaluator, Evaluator):
                evaluator = self.runner.build_evaluator(copy.deepcopy(evaluator))
        given = self._given[0] if isinstance(self._given[0], dict) else {}
        loader = {key: given[key] for key in ('batch_sampler', 'collate_fn', 'sampler')
                  if given.get(key) not in (None, DEFAULT_SAMPLER)}
        if given.get('drop_last'):
            loader |= dict(drop_last=True, batch_size=given.get('batch_size'))
        averaged = [hook.ema_model for hook in self.runner.hooks
                    if getattr(hook, 'ema_model', None) is not None]
        return identity(self.runner.model, dataset, evaluator, self.protocol, own_data=own_data,
                        fp16=self.fp16, loader=loader, averaged=averaged)

    def _finished_sources(self, results: Results) -> Iterator[tuple[tuple[str, int], str | None]]:
        """What the images of finished cells would be made of today.

        Data sets of their own are listed again where they are few, else the first of them.
        """
        finished = [cell for cell in self.protocol.cells if cell.key in results.cells]
        datasets: list[tuple[dict, str | None]] = []
        for cell in finished:
            if cell.dataset is None:
                yield cell.key, source(cell, self.dataloader.dataset)
                continue
            known = next((value for built, value in datasets if built == cell.dataset), None)
            if known is None and len(datasets) < FEW_DATASETS:
                known = source(cell, DATASETS.build(self._dataset_of(cell)))
                datasets.append((cell.dataset, known))
            if known is not None:
                yield cell.key, known

    def _report(self, results: Results) -> dict:
        content = results.as_dict()
        if is_main_process() and content['metric']:
            write_csv(content, osp.join(self.out_dir, 'results.csv'))
            write_per_class(content, osp.join(self.out_dir, 'per_class.csv'))
            if 'draws' in content['summary']:
                write_table(osp.join(self.out_dir, 'spread.csv'), draw_rows([content]))
            plot_results(content, osp.join(self.out_dir, 'results.png'))
            self.runner.logger.info('\n'.join(['', results_table(content), *interval_sentences(
                osp.join(self.out_dir, 'results.json'), content)]))
        return {name: value for name, value in content['summary'].items()
                if isinstance(value, float)}


def _needs(cell: Cell) -> tuple:
    """What a data loader and an evaluator are built for."""
    return cell.dataset, cell.dataloader, cell.drop, cell.evaluator


def replace_dataset(own: dict, cell: Cell) -> dict:
    """Config of the cell's data set, with the config's pipeline where it has none."""
    leaf = next(leaves(own))
    pipeline = leaf.get('pipeline', []) if isinstance(leaf, dict) else []
    if cell.drop:
        pipeline = for_prepared(pipeline, cell.drop)
    return copy.deepcopy({'pipeline': pipeline, **cell.dataset})
