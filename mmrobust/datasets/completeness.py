"""A look at the files of a data set before work starts: are they there, whole, and of one size?"""
import copy
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS
from torch.utils.data import BatchSampler, DataLoader

from mmrobust.utils.files import walk

from .images import check_whole, header, is_local, load_named, shown
from .pipeline import leaves, name_files, what_it_reads


def missing_data(config: dict) -> Iterator[str]:
    """One sentence for each folder of a data set's config that is missing or has no images.

    And for a list of images without a line.

    Data sets fail with less clear words when they are built on such folders.

    Args:
        config (dict): Config of one data set, with ``data_root`` and ``data_prefix``.
    """
    root, prefixes = config.get('data_root') or '', config.get('data_prefix') or {}
    if not is_local(root) or config.get('backend_args'):
        return
    annotations = config.get('ann_file')
    if annotations and isinstance(annotations, str) and is_local(annotations):
        path = Path(root, annotations)
        if path.is_file() and not path.stat().st_size:
            yield (f"ann_file='{path}' of {config.get('type')} is empty: write a line for each "
                   'image into it, or name another list')
    if not isinstance(prefixes, dict):
        return
    cls = config.get('type')
    if isinstance(cls, str):
        with DATASETS.switch_scope_and_registry(None) as registry:
            cls = registry.get(cls)
    parameters = inspect.signature(cls).parameters if inspect.isclass(cls) else {}
    for key, suffix_key in (('img_path', 'img_suffix'), ('seg_map_path', 'seg_map_suffix')):
        if not isinstance(prefixes.get(key), str):
            continue
        folder = Path(root, prefixes[key])
        suffix = config.get(suffix_key, getattr(parameters.get(suffix_key), 'default', ''))
        if not folder.is_dir():
            yield f"{key}='{folder}' of {config.get('type')} is not there: check data_prefix"
        elif not config.get('ann_file') and isinstance(suffix, str):
            places = [(place, any(name.endswith(suffix) for name in names))
                      for place, names in walk(folder)]
            if not any(found for _, found in places):
                yield (f"{key}='{folder}' of {config.get('type')} has no file ending with "
                       f"'{suffix}': check {suffix_key}")
            # the host libraries pass over these, and the number is one of fewer images
            yield from (f'{shown(place)} is a folder with the name of a file: remove or replace it'
                        for place, _ in places[1:] if suffix and place.endswith(suffix))


def check_dataset(dataset: Any, limit: int | None = 200) -> int:
    """Check that images and label maps exist, are whole, and have equal sizes.

    Sizes are those of the headers or, where these do not settle it (EXIF turns the image, the
    format is unusual), what the pipeline's own loading transforms make of the files. Files of
    other storages than the local one are left to the loader.

    Args:
        dataset: A built data set of MMEngine's kind, wrapped or not.
        limit (int, optional): At most so many samples, evenly spaced; None checks all.

    Returns:
        int: Number of samples that were checked.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is cut short, or a label map has another size than its image.
    """
    checked = 0
    for leaf in leaves(dataset):
        if not hasattr(leaf, 'get_data_info'):
            continue
        if (getattr(leaf, 'backend_args', None) or {}).get('backend', 'local') != 'local':
            continue
        length = len(leaf)
        count = length if limit is None else min(limit, length)
        for index in np.unique(np.linspace(0, length - 1, count).round().astype(int)).tolist():
            _check_sample(leaf, leaf.get_data_info(index))
            checked += 1
    return checked


def _check_sample(leaf: Any, info: dict) -> None:
    image, label = info.get('img_path'), info.get('seg_map_path')
    if not is_local(image):
        return
    check_whole(image)
    if not is_local(label):
        return
    check_whole(label, 'label map')
    stored, label_stored = header(image), header(label)
    if None not in (stored, label_stored) and not stored[1] and stored[0] == label_stored[0]:
        return
    size, label_size = _decoded_sizes(leaf, info)
    if None not in (size, label_size) and label_size != size:
        raise ValueError(
            f'label map {shown(label)} is {label_size[0]} x {label_size[1]} pixels, its image '
            f'{shown(image)} {size[0]} x {size[1]}: they must have the same size.')


def _decoded_sizes(leaf: Any, info: dict) -> list[tuple[int, int] | None]:
    """Width and height of image and label map as the data set's own pipeline loads them."""
    results, sizes = copy.deepcopy(info), []
    steps = getattr(getattr(leaf, 'pipeline', None), 'transforms', [])
    for path, entry in (('img_path', 'img'), ('seg_map_path', 'gt_seg_map')):
        for step in steps:
            if what_it_reads(step) == path:
                results = load_named(step, results, path) or results
        if entry in results:
            sizes.append(results[entry].shape[1::-1])
        else:  # nothing loads it here: as it is stored
            stored = header(info[path])
            sizes.append(stored and stored[0])
    return sizes


def check_ends(loader: DataLoader, index: int) -> None:
    """Make sure that a pass over a loader ends.

    Args:
        loader (DataLoader): The loader.
        index (int): Number of the batch that came, from 0.

    Raises:
        ValueError: If there should be no more.
    """
    if type(loader.batch_sampler) is BatchSampler and index >= len(loader):
        sampler = type(loader.sampler).__name__
        raise ValueError(
            f'{sampler} goes on after all {len(loader)} batches of {type(loader.dataset).__name__},'
            ' so that it would never end: take the sampler DefaultSampler')


def check_complete(loader: DataLoader, count: int) -> None:
    """Make sure that a pass over a loader gave all its batches.

    Args:
        loader (DataLoader): The loader; samplers of batches know their number only roughly.
        count (int): How many there were.

    Raises:
        ValueError: If there were fewer.
    """
    if type(loader.batch_sampler) is BatchSampler and count < len(loader):
        raise ValueError(
            f'{type(loader.dataset).__name__} ended after {count} of {len(loader)} batches: it '
            'raises StopIteration somewhere, correct it')


@HOOKS.register_module(force=True)
class CheckDataHook(Hook):
    """Checks the data sets of a run before any work, and lets them name files that fail later.

    See :func:`check_dataset`. And a test or validation whose data end too early has no metrics,
    see :func:`check_complete`; one whose data never end is stopped, see :func:`check_ends`.

    Args:
        limit (int, optional): At most so many samples of each; None checks all.
    """

    priority = 'VERY_HIGH'

    def __init__(self, limit: int | None = 200) -> None:
        self.limit = limit
        self._count = 0

    def before_run(self, runner: Any) -> None:
        # the properties of a runner would build the loops that this run does not use
        for name in ('_train_loop', '_val_loop', '_test_loop'):
            loader = getattr(getattr(runner, name), 'dataloader', None)
            if loader is not None:
                check_dataset(loader.dataset, self.limit)
                name_files(loader.dataset)

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None,
                        outputs: Any = None) -> None:
        check_ends(runner.test_loop.dataloader, batch_idx)
        self._count = batch_idx + 1

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None,
                       outputs: Any = None) -> None:
        check_ends(runner.val_loop.dataloader, batch_idx)
        self._count = batch_idx + 1

    def after_test_epoch(self, runner: Any, metrics: Any = None) -> None:
        check_complete(runner.test_loop.dataloader, self._count)

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        check_complete(runner.val_loop.dataloader, self._count)
