"""What the data of a config or of a benchmark hold, looked at file by file."""
import copy
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS
from tqdm import tqdm

from mmrobust.datasets.completeness import check_dataset, missing_data
from mmrobust.datasets.images import load_named
from mmrobust.datasets.labels import check_label_map
from mmrobust.datasets.pipeline import leaves, what_it_reads
from mmrobust.utils.mistakes import reading

from .loop import replace_dataset
from .protocols import Protocol

PARTS = ('train', 'val', 'test')


def check_data(cfg: Config, protocol: Protocol | None = None) -> Iterator[str]:
    """Read all files of data sets, and say of each what it holds.

    Args:
        cfg (Config): Full config.
        protocol (Protocol, optional): Look at what this benchmark reads instead of at the data of
            training, validation and test.

    Yields:
        str: Number of images and of classes, a sentence for each data set.

    Raises:
        FileNotFoundError: If a folder or a file is missing.
        ValueError: If a file is damaged, a label is no class, or there are no data.
    """
    seen: list[dict] = []
    for name, config in _configs(cfg, protocol):
        if config in seen:
            continue
        seen.append(config)
        problems = [problem for leaf in leaves(config) for problem in missing_data(leaf)]
        if problems:
            raise FileNotFoundError(f'{name}: {"; ".join(problems)}')
        with reading(f'the data set of {name}'):
            dataset = DATASETS.build(copy.deepcopy(config))
        for leaf in leaves(dataset):
            yield f'{name}: {_holds(leaf)}'
    if not seen:
        raise ValueError(f"the config '{cfg.filename}' has no data: give it a test_dataloader")


def _configs(cfg: Config, protocol: Protocol | None) -> Iterator[tuple[str, dict]]:
    own = {part: loader.dataset for part in PARTS
           if (loader := cfg.get(f'{part}_dataloader')) and loader.get('dataset')}
    if protocol is None:
        yield from ((f'{part}_dataloader', dataset) for part, dataset in own.items())
        return
    tested = own.get('test') or own.get('val') or {}
    for cell in protocol.selected:
        if cell.dataset is not None:
            yield str(cell), replace_dataset(tested, cell)
        elif tested:
            yield 'the test data', tested


def _holds(leaf: Any) -> str:
    kind, count = type(leaf).__name__, len(leaf)
    classes = (getattr(leaf, 'metainfo', None) or {}).get('classes') or ()
    if (frames := getattr(leaf, 'num_frames', None)) is not None:
        from mmrobust.datasets.imagenet_p import read_frames

        for index in _each(count, kind):
            read_frames(leaf.get_data_info(index)['img_path'], frames)
        return f'{kind}, {count} videos of {frames} frames'
    check_dataset(leaf, limit=None)
    found = set().union(*(_labels(leaf, index, len(classes)) for index in _each(count, kind)))
    occur = f', {len(found)} of {len(classes)} classes occur' if classes and found else (
        '' if found else ', no labels')
    return f'{kind}, {count} images{occur}'


def _each(count: int, name: str) -> Any:
    return tqdm(range(count), desc=name, leave=False)


def _labels(leaf: Any, index: int, classes: int) -> set[int]:
    """The classes of one sample."""
    info = leaf.get_data_info(index)
    if 'gt_label' in info:
        label = torch.as_tensor(info['gt_label']).flatten().tolist()
        if classes and not all(0 <= value < classes for value in label):
            raise ValueError(f'{info.get("img_path") or f"sample {index}"} has the label {label}, '
                             f'{type(leaf).__name__} has {classes} classes, 0 to {classes - 1}')
        return set(label)
    step = next((step for step in leaf.pipeline.transforms
                 if what_it_reads(step) == 'seg_map_path'), None)
    if step is None or not info.get('seg_map_path'):
        return set()
    path, ignored = info['seg_map_path'], getattr(leaf, 'ignore_index', 255)
    labels = torch.from_numpy(load_named(step, info, 'seg_map_path')['gt_seg_map'])
    check_label_map(labels, path, classes, frozenset([ignored]))
    return {*labels.unique().tolist()} - {ignored}
