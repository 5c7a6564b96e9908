"""What a mean hides: every class by itself, and whether the model's confidence can be trusted."""
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseTTAModel
from mmengine.registry import METRICS
from torch import Tensor, nn

from mmrobust.evaluation.confidences import Confidences

PREFIX = 'measures'


def lacks_probabilities(model: nn.Module) -> str | None:
    """Why the scores of a segmenter are no probabilities of classes; None if they are."""
    if isinstance(model, BaseTTAModel):
        model = model.module
        if hasattr(model, 'decode_head'):
            return 'test-time augmentation keeps no scores of its mean'
    model = getattr(model, 'module', model)
    head = getattr(model, 'decode_head', None)
    if head is None:
        return None
    head = head[-1] if isinstance(head, nn.ModuleList) else head
    losses = getattr(head, 'loss_decode', None)
    if losses is None:
        return f'{type(head).__name__} predicts no logits of classes'
    losses = losses if isinstance(losses, nn.ModuleList) else [losses]
    channels = getattr(head, 'out_channels', None)
    if channels != 1 and all(getattr(loss, 'use_sigmoid', False) for loss in losses):
        return f'{type(head).__name__} was trained with a sigmoid of each class by itself'
    return None


@METRICS.register_module(force=True)
class RobustnessMeasures(BaseMetric):
    """Per-class results, calibration and failure detection of segmenters and classifiers.

    It looks at the predictions that the config's own metric gets, in the same pass, and keeps sums
    only. Of other tasks, of images with several labels and without labels it reports nothing.

    Per class, in per cent: ``IoU`` and ``accuracy`` (the share of the label that is found) of a
    segmenter, as MMSegmentation's ``IoUMetric`` counts them, ``accuracy`` of a classifier; NaN
    for a class that does not occur. The others: :class:`Confidences`. Lists (of classes, of bins)
    are in ``measures`` only, the numbers are also returned to the evaluator.

    Args:
        ignore_index (int): Label of pixels that do not count. Defaults to 255.
        confidences (bool): Whether the scores of the model are probabilities or logits of
            classes. Defaults to True.
        **kwargs: Arguments of :class:`mmengine.evaluator.BaseMetric`.

    Attributes:
        measures (dict): Everything that was measured when it was last evaluated.
        per_image (np.ndarray): What each image contributed, see
            :func:`mmrobust.evaluation.intervals.write_images`; None without any.
    """

    default_prefix = PREFIX

    def __init__(self, ignore_index: int = 255, confidences: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ignore_index = ignore_index
        self.confidences = confidences
        # the last sample is kept apart: samplers may give it to two processes
        self._sums: tuple[Tensor, Confidences] | None = None
        self._last: tuple[Tensor, Confidences] | None = None
        self._segments = False
        self._count = 0
        self.measures: dict[str, Any] = {}
        self.per_image: np.ndarray | None = None
        self._images: list[np.ndarray] = []

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count the predictions of a batch."""
        known = [sample for sample in data_samples if self._is_labelled(sample)]
        for part in (known[:-1], known[-1:]):
            if part:
                self._sums = _added(self._sums, self._last)
                self._last = self._counted(part)
        self._count += len(data_samples)

    @staticmethod
    def _is_labelled(sample: dict) -> bool:
        if 'gt_sem_seg' in sample and 'pred_sem_seg' in sample:
            return True
        label = sample.get('gt_label')
        return 'pred_score' in sample and isinstance(label, Tensor) and label.numel() == 1

    def _counted(self, samples: Sequence[dict]) -> tuple[Tensor, Confidences]:
        """Areas (3, classes) of hits, predictions and labels, and the confidences."""
        self._segments = 'pred_sem_seg' in samples[0]
        names = (self.dataset_meta or {}).get('classes')
        if not self._segments:
            scores = torch.stack([sample['pred_score'] for sample in samples], 1).float()
            labels = torch.cat([sample['gt_label'].flatten() for sample in samples])
            logits = scores.clamp_min(torch.finfo(scores.dtype).tiny).log()
            self._images += list(torch.stack([labels.cpu(), scores.argmax(0).cpu()], 1).numpy())
            return _count(logits, scores.argmax(0), labels.to(scores.device),
                          torch.ones_like(labels, dtype=torch.bool).to(scores.device),
                          len(scores), self.confidences)
        counted = None
        for sample in samples:
            predicted = sample['pred_sem_seg']['data'].flatten().long()
            labels = sample['gt_sem_seg']['data'].flatten().to(predicted.device).long()
            logits = None
            if self.confidences and 'seg_logits' in sample:
                logits = sample['seg_logits']['data'].float().flatten(1)
                if len(logits) == 1:  # the probability of the second of two classes
                    tiny = torch.finfo(logits.dtype).tiny
                    logits = torch.cat([1 - logits, logits]).clamp_min(tiny).log()
            number = len(names) if names else len(logits) if logits is not None else 0
            own = _count(logits, predicted, labels, labels != self.ignore_index,
                         number or int(max(predicted.max(), labels.max())) + 1,
                         logits is not None)
            self._images.append(own[0].cpu().numpy().astype(np.int32))
            counted = _added(counted, own)
        return counted

    def evaluate(self, size: int) -> dict[str, Any]:
        """The measures of all processes' samples.

        Args:
            size (int): Length of the data set; samplers may give the last few to two processes.
        """
        rank, processes = get_rank(), get_world_size()
        last_index = (self._count - 1) * processes + rank
        own = self._sums if processes > 1 and last_index >= size else _added(self._sums, self._last)
        total = None
        sums, parts = zip(*all_gather_object((_on_cpu(own), self._images)), strict=True)
        for part in sums:
            total = _added(total, part)
        images = [one for step in zip_longest(*parts) for one in step if one is not None][:size]
        same = len({one.shape for one in images}) == 1
        self.per_image = np.stack(images) if same else None
        self._sums = self._last = None
        self._images = []
        self._count = 0
        self.measures = {} if total is None else self.compute_metrics([total])
        return {f'{self.prefix}/{name}': value for name, value in self.measures.items()
                if not isinstance(value, list)}

    def compute_metrics(self, results: list) -> dict[str, Any]:
        """Measures of counts."""
        (hits, predicted, labelled), confidences = results[0][0].double(), results[0][1]
        found = {}
        if self._segments:
            union = predicted + labelled - hits
            found['per_class/IoU'] = _percent(hits, union)
        found['per_class/accuracy'] = _percent(hits, labelled)
        return {**found, **confidences.measures()}


def _count(logits: Tensor | None, predicted: Tensor, labels: Tensor, known: Tensor, classes: int,
           confident: bool) -> tuple[Tensor, Confidences]:
    hit = known & (predicted == labels)
    areas = torch.stack([torch.bincount(of, minlength=classes)[:classes] for of in (
        predicted[hit], predicted[known], labels[known])])
    confidences = Confidences()
    if confident:
        confidences.add(logits, predicted, labels, known)
    return areas, confidences


def _added(total: tuple | None, more: tuple | None) -> tuple | None:
    if total is None or more is None:
        return more if total is None else total
    return tuple(own + new for own, new in zip(total, more, strict=True))


def _on_cpu(sums: tuple[Tensor, Confidences] | None) -> tuple[Tensor, Confidences] | None:
    if sums is None:
        return None
    return sums[0].cpu(), Confidences(*(value.cpu() for value in vars(sums[1]).values()))


def _percent(part: Tensor, whole: Tensor) -> list[float]:
    return (100 * part / whole).tolist()  # of nothing: NaN
