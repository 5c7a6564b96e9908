"""ImageNet's other test sets: natural adversarial images, renditions, sketches, videos."""
import os.path as osp
from dataclasses import replace

from mmrobust.datasets.perturbations import EXTRA_PERTURBATIONS, PERTURBATIONS

from ..metrics.flip_rate import load_baseline
from .base import CLEAN, PROTOCOLS, RESIZING, Cell, Protocol, register_protocol

CLASS_SUBSETS = {'imagenet-a': 'ImageNetA', 'imagenet-r': 'ImageNetR'}
CLEAN_SUBSET = ('clean-200', 0)


@register_protocol('imagenet-a', data_root='data/imagenet-a')
@register_protocol('imagenet-r', data_root='data/imagenet-r')
def class_subset(name: str, data_root: str, complete: bool = True) -> Protocol:
    """ImageNet-A or -R, and as a baseline the config's own (ImageNet) images of the 200 classes.

    Both are scored over the 200 classes and over all 1000.

    Args:
        name (str): Name of the protocol.
        data_root (str): The folder with the class folders.
        complete (bool): False accepts a part of the images.
    """
    evaluator = dict(type='SubsetAccuracy', class_set=name)
    return Protocol(name, (
        Cell(*CLEAN_SUBSET, evaluator=evaluator),
        Cell(name, evaluator=evaluator, dataset=dict(
            type=CLASS_SUBSETS[name], data_root=data_root, complete=complete)),
    ), summary='every_metric', task='classification')


@register_protocol('imagenet-sketch', data_root='data/imagenet-sketch')
def sketch(name: str, data_root: str, complete: bool = True) -> Protocol:
    """ImageNet-Sketch, after the config's own test set, by the config's own metrics.

    Args:
        name (str): Name of the protocol.
        data_root (str): The folder with the class folders.
        complete (bool): False accepts a part of the classes.
    """
    dataset = dict(type='ImageNetSketch', data_root=data_root, complete=complete)
    return Protocol(name, (Cell(CLEAN), Cell(name, dataset=dataset)), summary='every_metric',
                    task='classification')


@register_protocol('imagenet-p', data_root='data/imagenet-p')
def perturbations(name: str, data_root: str, difficulty: int = 1, baseline: str | None = None,
                  extra: bool = False, sequences_per_batch: int = 4, complete: bool = True,
                  num_frames: int | None = None) -> Protocol:
    """ImageNet-P: the flip probability of each perturbation, and mFR if there is a baseline.

    Its frames of 224 x 224 are resized where the config's own pipeline ends with another size.

    Args:
        name (str): Name of the protocol.
        data_root (str): The folder with the perturbations' folders.
        difficulty (int): 1, 2 or 3.
        baseline (str, optional): JSON file of the baseline model's flip probabilities, see
            :func:`~mmrobust.evaluation.metrics.flip_rate.load_baseline`.
        extra (bool): Whether to run the four perturbations kept for validation instead.
        sequences_per_batch (int): Batch size; a sequence has 31 frames.
        complete (bool): False accepts a part of the classes.
        num_frames (int, optional): Frames of a sequence, where a copy differs.
    """
    names = EXTRA_PERTURBATIONS if extra else PERTURBATIONS
    reference = load_baseline(baseline, names) if baseline else {}
    loader = dict(batch_size=sequences_per_batch,
                  collate_fn=dict(type='mmrobust.datasets.imagenet_p.collate_sequences'))
    return Protocol(name, tuple(
        Cell(perturbation, dataloader=loader, drop=RESIZING,
             dataset=dict(type='ImageNetP', data_root=data_root, perturbation=perturbation,
                          difficulty=difficulty, num_frames=num_frames, complete=complete),
             evaluator=dict(type='FlipProbability', baseline=reference.get(perturbation)))
        for perturbation in names), summary='flip_rate', task='classification')


@register_protocol('robustness')
def robustness(name: str, data_root: str = 'data', baseline: str | None = None, seed: int = 0,
               complete: bool = True) -> Protocol:
    """All of ImageNet's test sets that are there, in one table.

    ImageNet-C is made on the fly where its folder is missing; the others are left out. P is of
    the config's own test; the images of ImageNet-C and -P are of 224 x 224, resized where the
    config ends with another size (mCE is relative to AlexNet's errors, not to P).

    Args:
        name (str): Name of the protocol.
        data_root (str): The folder with ``imagenet-c``, ``imagenet-p``, ``imagenet-a``,
            ``imagenet-r`` and ``imagenet-sketch``, or some of them.
        baseline (str, optional): See :func:`perturbations`.
        seed (int): Seed of corruptions made on the fly.
        complete (bool): False accepts a part of each data set.
    """
    options = {'imagenet-c': dict(seed=seed), 'imagenet-p': dict(baseline=baseline)}
    cells: dict[tuple[str, int], Cell] = {}
    for key in ('imagenet-c', 'imagenet-p', *CLASS_SUBSETS, 'imagenet-sketch'):
        if osp.isdir(root := osp.join(data_root, key)):
            data = dict(data_root=root, complete=complete)
        elif key == 'imagenet-c':
            data = {}
        else:
            continue
        for cell in PROTOCOLS[key](**options.get(key, {}), **data).cells:
            if key == 'imagenet-p':  # its names are those of corruptions
                cell = replace(cell, name=f'{key}/{cell.name}')
            cells[cell.key] = cell
    cells.pop(CLEAN_SUBSET, None)
    cells[CLEAN, 0] = Cell(CLEAN)  # as the config tests, whichever of the sets are there
    return Protocol(name, tuple(cells.values()), summary='robustness', task='classification')
