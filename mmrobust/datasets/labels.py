"""Are the labels those of the model's classes? Looked at where each batch is read anyway."""
import logging
from collections.abc import Iterable
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from torch import Tensor, nn

from .pipeline import leaves

MOST_SHOWN = 4


def class_count(model: nn.Module) -> int | None:
    """How many classes a model tells apart, as its (last) head says; None if it does not."""
    for _ in range(3):  # wrappers for several processes, for test-time augmentation
        model = getattr(model, 'module', model)
    head = getattr(model, 'decode_head', None) or getattr(model, 'head', None)
    if isinstance(head, (list, nn.ModuleList)):
        head = head[-1] if len(head) else None
    count = getattr(head, 'num_classes', None)
    if not isinstance(count, int):
        return None
    # one sigmoid output tells two classes apart
    return max(count, 2) if getattr(head, 'out_channels', None) == 1 or count == 1 else count


def ignored_labels(model: nn.Module, metrics: Iterable[Any] = ()) -> frozenset[int]:
    """The labels that do not count: for the metrics where they have one, else in training."""
    for _ in range(3):
        model = getattr(model, 'module', model)
    own = [{metric.ignore_index} for metric in metrics
           if isinstance(getattr(metric, 'ignore_index', None), int)]
    if own:
        return frozenset(set.intersection(*own))
    head = getattr(model, 'decode_head', None)
    if isinstance(head, (list, nn.ModuleList)):
        head = head[-1] if len(head) else None
    index = getattr(head, 'ignore_index', None)
    return frozenset([index] if isinstance(index, int) else [255])


def check_label_map(labels: Tensor, name: Any, classes: int,
                    ignored: frozenset[int] = frozenset([255])) -> None:
    """Make sure that a label map holds nothing but classes and what is ignored.

    Args:
        labels (Tensor): (H, W) or (1, H, W).
        name: What to call it in errors, its file.
        classes (int): Number of classes.
        ignored (frozenset[int]): Labels that do not count.

    Raises:
        ValueError: If it holds anything else, or is a picture with channels.
    """
    if labels.ndim not in (2, 3) or labels.ndim == 3 and labels.shape[0] != 1:
        raise ValueError(
            f'label map {name} has the shape {tuple(labels.shape)}, a picture of colours: give '
            f'label maps with one number per pixel, 0 to {classes - 1}.')
    wrong = (labels >= classes) | (labels < 0)
    for label in ignored:
        wrong &= labels != label
    if bool(wrong.any()):
        values = labels[wrong].unique().tolist()
        shown = ', '.join(map(str, values[:MOST_SHOWN]))
        raise ValueError(
            f'label map {name} holds labels up to {values[-1]} ({shown}'
            f'{", ..." if len(values) > MOST_SHOWN else ""}), the model has {classes} classes, 0 '
            f'to {classes - 1}, and {_text(ignored)} not count: use label maps with the ids of '
            f'these classes (of Cityscapes labelTrainIds, seg_map_suffix), or reduce_zero_label '
            f'where 0 is no class, or correct num_classes or ignore_index.')


def _text(ignored: frozenset[int]) -> str:
    if not ignored:
        return 'every label does'
    return f'{" and ".join(map(str, sorted(ignored)))} {"does" if len(ignored) == 1 else "do"}'


def check_labels(samples: Iterable[Any], classes: int,
                 ignored: frozenset[int] = frozenset([255])) -> None:
    """Check the labels of data samples, of segmentation or classification.

    Args:
        samples (Iterable): Data samples; those without labels pass.
        classes, ignored: See :func:`check_label_map`.

    Raises:
        ValueError: If a label is none of the classes.
    """
    for sample in samples:
        if isinstance(sample, (list, tuple)):  # the views of test-time augmentation
            check_labels(sample, classes, ignored)
            continue
        if not hasattr(sample, 'get'):
            continue
        if (labels := sample.get('gt_sem_seg')) is not None:
            name = sample.get('seg_map_path') or sample.get('img_path') or 'of a sample'
            check_label_map(labels.data, name, classes, ignored)
        label = sample.get('gt_label')
        if isinstance(label, Tensor) and label.numel() and not label.is_floating_point():
            low, high = label.min().item(), label.max().item()
            if low < 0 or high >= classes:
                name = sample.get('img_path') or f'sample {sample.get("sample_idx", "")}'
                raise ValueError(
                    f'{name} has the label {high if high >= classes else low}, the model has '
                    f'{classes} classes, 0 to {classes - 1}: use the labels of these classes, or '
                    f'correct num_classes of the head.')


def check_batch(model: nn.Module, batch: Any, metrics: Iterable[Any] = ()) -> None:
    """Check the labels of a batch against the classes of a model, where both are known.

    Args:
        model (nn.Module): The model, wrapped or not.
        batch: A batch of its data loader.
        metrics (Iterable): Those that are to see the batch; none in training.

    Raises:
        ValueError: See :func:`check_labels`.
    """
    samples = batch.get('data_samples') if isinstance(batch, dict) else None
    classes = class_count(model)
    if samples is not None and classes is not None:
        check_labels(samples, classes, ignored_labels(model, metrics))


def check_class_count(model: nn.Module, dataset: Any) -> None:
    """Compare the outputs of a model with the classes of a data set, where both are known.

    With more outputs than classes a label means another class to either, or the metrics leave
    predictions out. With fewer, all is well as long as no label is beyond them, which is looked
    at with every batch.

    Raises:
        ValueError: If the model has more.
    """
    outputs = class_count(model)
    for leaf in leaves(dataset):
        names = (getattr(leaf, 'metainfo', None) or {}).get('classes')
        if outputs is None or not isinstance(names, (list, tuple)) or not names:
            continue
        count, name = max(len(names), 2), type(leaf).__name__
        if outputs > count:
            raise ValueError(
                f'the model has {outputs} outputs, {name} has {len(names)} classes '
                f'({", ".join(map(str, names[:3]))}{", ..." if len(names) > 3 else ""}): correct '
                f'num_classes of the head, or the data set or its metainfo')
        if outputs < count:
            print_log(f'the model has {outputs} outputs, {name} has {len(names)} classes: those '
                      f'beyond are never predicted', 'current', logging.WARNING)


@HOOKS.register_module(force=True)
class CheckLabelsHook(Hook):
    """Checks the number of classes before a training or a test, and the labels of every batch.

    See :func:`check_class_count` and :func:`check_labels`.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Any) -> None:
        for loop in (runner.train_loop, runner.val_loop):
            if loop is not None:
                check_class_count(runner.model, loop.dataloader.dataset)

    def before_test(self, runner: Any) -> None:
        if type(runner.test_loop).__name__ != 'CorruptionTestLoop':  # it asks the model itself
            check_class_count(runner.model, runner.test_loop.dataloader.dataset)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        check_batch(runner.model, data_batch)

    def before_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        check_batch(runner.model, data_batch, runner.val_evaluator.metrics)

    def before_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if type(runner.test_loop).__name__ == 'CorruptionTestLoop':
            return  # it looked before it attacked
        check_batch(runner.model, data_batch, runner.test_evaluator.metrics)
