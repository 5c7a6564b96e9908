"""A look at the files of a data set before work starts: are they there, whole, and of one size?"""
import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS
from PIL import Image

# what a complete file ends with, give or take some padding
ENDINGS = {'JPEG': b'\xff\xd9', 'PNG': b'IEND'}


def _leaves(dataset: Any) -> Iterator[Any]:
    """The data sets inside any wrappers."""
    inner = getattr(dataset, 'datasets', None) or (
        [dataset.dataset] if hasattr(dataset, 'dataset') else [])
    for part in inner:
        yield from _leaves(part)
    if not inner:
        yield dataset


def _is_whole(path: str, image: Image.Image) -> bool:
    """Whether a file is complete: by its ending or, where that is unusual, by decoding it."""
    ending = ENDINGS.get(image.format)
    if ending is None:
        return True
    with open(path, 'rb') as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 1024))
        if ending in file.read():
            return True
    try:
        image.load()
    except OSError:
        return False
    return True


def image_size(path: str, kind: str = 'image') -> tuple[int, int]:
    """Width and height of an image file, from its header.

    Args:
        path (str): The file.
        kind (str): What to call it in errors.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is no image, or cut short.
    """
    try:
        with Image.open(path) as image:
            if not _is_whole(path, image):
                raise ValueError(f'{kind} {path} is cut short: fetch or make it again.')
            return image.size
    except FileNotFoundError:
        raise FileNotFoundError(
            f'{kind} {path} does not exist: check data_root, data_prefix and the suffixes in the '
            f'config.') from None
    except OSError as error:
        raise ValueError(f'{kind} {path} cannot be read as an image ({error}): replace it.'
                         ) from None


def missing_data(config: dict) -> Iterator[str]:
    """One sentence for each folder of a data set's config that is missing or has no images.

    Data sets fail with less clear words when they are built on such folders.

    Args:
        config (dict): Config of one data set, with ``data_root`` and ``data_prefix``.
    """
    root, prefixes = config.get('data_root') or '', config.get('data_prefix') or {}
    if not isinstance(prefixes, dict) or not _is_local(root) or config.get('backend_args'):
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
        elif not config.get('ann_file') and isinstance(suffix, str) and not any(
                name.endswith(suffix) for *_, names in os.walk(folder) for name in names):
            yield (f"{key}='{folder}' of {config.get('type')} has no file ending with "
                   f"'{suffix}': check {suffix_key}")


def _is_local(path: Any) -> bool:
    return isinstance(path, (str, Path)) and '://' not in str(path)


def check_dataset(dataset: Any, limit: int | None = 200) -> int:
    """Check that images and label maps exist, are whole, and have equal sizes.

    Reads headers only. Files of other storages than the local one are left to the loader.

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
    for leaf in _leaves(dataset):
        if not hasattr(leaf, 'get_data_info'):
            continue
        if (getattr(leaf, 'backend_args', None) or {}).get('backend', 'local') != 'local':
            continue
        length = len(leaf)
        count = length if limit is None else min(limit, length)
        for index in np.unique(np.linspace(0, length - 1, count).round().astype(int)).tolist():
            _check_sample(leaf.get_data_info(index))
            checked += 1
    return checked


def _check_sample(info: dict) -> None:
    image, label = info.get('img_path'), info.get('seg_map_path')
    if not _is_local(image):
        return
    size = image_size(image)
    if not _is_local(label):
        return
    label_size = image_size(label, 'label map')
    if label_size != size:
        raise ValueError(
            f'label map {label} is {label_size[0]} x {label_size[1]} pixels, its image {image} '
            f'{size[0]} x {size[1]}: they must have the same size.')


@HOOKS.register_module(force=True)
class CheckDataHook(Hook):
    """Checks the data sets of a run before any work; see :func:`check_dataset`.

    Args:
        limit (int, optional): At most so many samples of each; None checks all.
    """

    priority = 'VERY_HIGH'

    def __init__(self, limit: int | None = 200) -> None:
        self.limit = limit

    def before_run(self, runner: Any) -> None:
        # the properties of a runner would build the loops that this run does not use
        for name in ('_train_loop', '_val_loop', '_test_loop'):
            loader = getattr(getattr(runner, name), 'dataloader', None)
            if loader is not None:
                check_dataset(loader.dataset, self.limit)
