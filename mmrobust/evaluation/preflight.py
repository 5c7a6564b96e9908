"""One look before the first cell: real samples, and the model's own answer to them.

What does not fit is a sentence with the value and the remedy, and no cell is computed.
"""
import copy
from typing import Any

import torch
from mmengine.runner.amp import autocast
from mmengine.structures import BaseDataElement
from torch.utils.data import DataLoader

from mmrobust.datasets.labels import check_labels, ignored_labels
from mmrobust.utils.mistakes import reading

from .pipeline_switch import leaf_datasets
from .protocols import CLEAN, Cell
from .results import main_metric
from .trial import measuring, trying, undisturbed

TASKS = dict(classification='classifier', segmentation='segmenter', detection='detector')
NAMED = dict(classification=('imagenet-c', 'cifar10-c', 'imagenet-a'),
             segmentation=('cityscapes-c', 'acdc'), detection=())
GENERAL = 'all, benchmark, noise, blur, weather, digital, or single corruptions'


def representatives(cells: list[Cell]) -> list[Cell]:
    """One cell of each kind: of every corruption the strongest, of every data set the first.

    Cells with ready-made images have a folder each, so all of them are looked at.
    """
    found: dict[tuple, Cell] = {}
    for cell in cells:
        data, evaluator = cell.dataset or {}, cell.evaluator or {}
        evaluator = evaluator.get('type') if isinstance(evaluator, dict) else str(evaluator)
        key = (str(data.get('type')), str(evaluator), cell.attack is not None and str(cell.key),
               cell.corruption and cell.name, cell.corrupted_root and cell.key)
        if key not in found or cell.corruption:
            found[key] = cell
    return list(found.values())


class Preflight:
    """Checks that a benchmark's data, model and metrics fit each other.

    Args:
        loop (CorruptionTestLoop): The loop that is about to run.
    """

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.protocol = loop.protocol
        self.model = getattr(loop.runner.model, 'module', loop.runner.model)
        if 'Parallel' not in type(loop.runner.model).__name__:
            self.model = loop.runner.model  # a wrapper for test-time augmentation stays
        self._seen: set = set()
        self._loaded = False

    def check(self, cells: list[Cell]) -> None:
        """Look at samples of the unfinished cells.

        Raises:
            ValueError: If something does not fit.
        """
        if cells and (task := _task_of_heads(self.model)):
            self._check_task(task)
        with undisturbed():
            self.model.eval()
            for cell in representatives(cells):
                self.loop._enter(cell)
                self._check_cell(cell)

    def _check_cell(self, cell: Cell) -> None:
        dataset = self.loop.dataloader.dataset
        count = len(dataset)
        if not count:
            raise ValueError(f'the data set of {cell} is empty: check its folders and ann_file.')
        # labels of several images, and several of the copies that somebody else made
        several = cell.name == CLEAN or cell.corrupted_root is not None
        for index in sorted({0, count // 2, count - 1} if several else {0}):
            with reading(f'{self._name(dataset, index)}, as the test pipeline prepares it for '
                         f'{cell}', 'correct test_dataloader.dataset.pipeline, or the file',
                         running=True):
                batch = self._load(index)
            self._check_sample(cell, batch)
        if cell.attack is not None:
            self._try_attack(cell, batch)

    def _load(self, index: int) -> Any:
        """A batch of one sample; the very first one where the run's own are loaded.

        Code that the config brings along may end its process, which is only a worker then.
        """
        loader = self.loop.dataloader
        if self._loaded or not loader.num_workers:
            return loader.collate_fn([loader.dataset[index]])
        self._loaded = True
        return next(iter(DataLoader(
            loader.dataset, sampler=[index], num_workers=1, collate_fn=loader.collate_fn,
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context)))

    def _check_sample(self, cell: Cell, batch: Any) -> None:
        inputs = batch.get('inputs') if isinstance(batch, dict) else None
        if inputs is None:
            raise ValueError('the test pipeline does not end with packed inputs: end it with '
                             'PackSegInputs or PackInputs.')
        samples = batch.get('data_samples') or []
        first = inputs[0][0] if isinstance(inputs[0], (list, tuple)) else inputs[0]
        kind = tuple(first.shape), first.dtype, str(type(self.loop.dataloader.dataset)), str(
            cell.evaluator)
        known = kind in self._seen
        if not known:
            self._seen.add(kind)
            self._answer = self._ask(cell, batch, first)
            self._check_answer(cell)
        classes = self._outputs(self._answer[0])
        if classes is not None:
            check_labels(samples, classes,
                         ignored_labels(self.model, self.loop.evaluator.metrics))
        if not known:
            self._check_metrics(cell, batch)

    @torch.no_grad()
    def _ask(self, cell: Cell, batch: Any, image: Any) -> list:
        """The model's answer to (the first image of) a batch."""
        frames = len(batch['inputs'])
        one = {key: value[:1] for key, value in batch.items()} if frames > 1 and not isinstance(
            batch['inputs'][0], (list, tuple)) else batch
        size = ' x '.join(map(str, image.shape[:0:-1]))
        with reading(f'the model on an image of {size} ({str(image.dtype).split(".")[-1]}), as the '
                     f'test pipeline gives it for {cell}',
                     'make the pipeline give what the model takes', running=True), \
                autocast(enabled=self.loop.fp16):
            return list(self.model.test_step(copy.deepcopy(one))) * (frames if one is not batch
                                                                     else 1)

    def _check_answer(self, cell: Cell) -> None:
        answer = self._answer[0]
        if task := _task(answer):
            self._check_task(task)
        classes = self._outputs(answer)
        for leaf in leaf_datasets(self.loop.dataloader.dataset):
            names = (getattr(leaf, 'metainfo', None) or {}).get('classes')
            if classes is None or names is None or task == 'detection':
                continue
            if len(names) != classes and not (task == 'segmentation' and classes == 2
                                              and len(names) == 1):
                raise ValueError(
                    f'{cell} needs a model with the {len(names)} classes of '
                    f'{type(leaf).__name__}, this one has {classes} outputs: test a model that '
                    f'was trained on them, or correct num_classes or the data set.')

    def _check_task(self, task: str) -> None:
        wanted = self.protocol.task
        if wanted and task != wanted:
            raise ValueError(
                f'{self.protocol.name} needs a {TASKS[wanted]}, this model is a {TASKS[task]}: '
                f'choose {", ".join([*NAMED[task], GENERAL])}.')

    @staticmethod
    def _outputs(answer: Any) -> int | None:
        """How many classes an answer tells apart."""
        if 'seg_logits' in answer:
            channels = answer.seg_logits.data.shape[0]
            return 2 if channels == 1 else channels
        return answer.pred_score.numel() if 'pred_score' in answer else None

    def _check_metrics(self, cell: Cell, batch: Any) -> None:
        """Let the metrics work on the answer, and see whether those that are needed come out."""
        task = _task(self._answer[0])
        metrics = measuring(self.loop.evaluator.metrics)
        if task not in ('classification', 'segmentation') or not metrics:
            return
        label, step = (('gt_sem_seg', 'LoadAnnotations') if task == 'segmentation' else
                       ('gt_label', 'PackInputs'))
        if not any(key in self._answer[0] for key in (label, 'gt_score')):
            raise ValueError(
                f'the test pipeline loads no labels ({label}), without which nothing can be '
                f"measured: add dict(type='{step}') to test_dataloader.dataset.pipeline.")
        found: dict[str, Any] = {}
        for metric in metrics:
            with trying(metric, 'test_evaluator'):
                found |= _evaluate(metric, batch, self._answer)
        if cell.evaluator is None:
            main_metric(found, self.loop._metric)

    def _try_attack(self, cell: Cell, batch: Any) -> None:
        """Take one step of an attack."""
        attack = copy.copy(self.loop._attacks[cell.key])
        for name in ('steps', 'queries', 'restarts'):  # of those that have any
            setattr(attack, name, 1)
        attack(self.model, batch)

    @staticmethod
    def _name(dataset: Any, index: int) -> str:
        info = dataset.get_data_info(index) if hasattr(dataset, 'get_data_info') else {}
        return str(info.get('img_path') or f'sample {index} of {type(dataset).__name__}')


def _task_of_heads(model: Any) -> str | None:
    """What a model is for, as far as its heads tell before it is asked."""
    while hasattr(model, 'module'):
        model = model.module
    for task, heads in dict(segmentation=('decode_head',), classification=('head',),
                            detection=('bbox_head', 'roi_head', 'rpn_head')).items():
        if any(getattr(model, head, None) is not None for head in heads):
            return task
    return None


def _task(answer: Any) -> str | None:
    for task, keys in dict(segmentation=('pred_sem_seg', 'seg_logits'),
                           detection=('pred_instances', 'pred_panoptic_seg'),
                           classification=('pred_score', 'pred_label')).items():
        if any(key in answer for key in keys):
            return task
    return None


def _evaluate(metric: Any, batch: Any, answer: list) -> dict[str, Any]:
    """What a metric says of an answer, without the other processes of a run."""
    metric = copy.deepcopy(metric)
    metric.results = []
    if hasattr(metric, 'output_dir'):
        metric.output_dir = None
    metric.process(batch, [sample.to_dict() if isinstance(sample, BaseDataElement) else sample
                           for sample in copy.deepcopy(answer)])
    found = metric.compute_metrics(metric.results)
    return {f'{metric.prefix}/{name}' if metric.prefix else name: value
            for name, value in found.items()}
