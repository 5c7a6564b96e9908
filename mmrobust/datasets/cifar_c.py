"""CIFAR-10-C and CIFAR-100-C as published: one ``.npy`` file for each corruption."""
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.registry import DATASETS

from mmrobust.corruptions.severities import LEVELS
from mmrobust.utils.hosts import require

from .pipeline import without_loading

require('mmpretrain')
from mmpretrain.datasets import CIFAR10, CIFAR100, BaseDataset

ROWS_PER_SEVERITY = 10000
IMAGES_SHAPE = (5 * ROWS_PER_SEVERITY, 32, 32, 3)


def _load(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    if not path.is_file():
        there = sorted(p.stem for p in path.parent.glob('*.npy') if p.stem != 'labels')
        raise FileNotFoundError(
            f'no file {path}: unpack CIFAR-C there; the folder holds '
            f'{", ".join(there) or "no corruptions"}.')
    try:
        array = np.load(path, mmap_mode='r', allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f'cannot read {path} ({error}): fetch the file again.') from error
    if array.shape != shape or array.dtype.kind not in 'ui':
        raise ValueError(
            f'{path} holds {array.dtype} of shape {array.shape} instead of integers of shape '
            f'{shape}: it is no file of CIFAR-C, or was cut short.')
    return array


@DATASETS.register_module(force=True)
class CIFAR10C(BaseDataset):
    """One cell of CIFAR-10-C: ``<data_root>/<corruption>.npy`` and ``<data_root>/labels.npy``.

    A file holds the 10,000 test images at severity 1, then the same at severity 2, and so on to
    5. Hendrycks and Dietterich, ICLR 2019.

    Args:
        data_root (str): The folder with the files.
        corruption (str): Name of the corruption.
        severity (int): 1 to 5.
        pipeline (Sequence): As a rule the pipeline of the model's own test data. If it loads image
            files, that step is left out and the images come as it would give them, in BGR;
            otherwise in RGB, as from MMPretrain's CIFAR10.
        **kwargs: Arguments of :class:`mmpretrain.datasets.BaseDataset`.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If there is no such severity, or a file is not as published.
    """

    METAINFO = CIFAR10.METAINFO

    def __init__(self,
                 data_root: str,
                 corruption: str,
                 severity: int,
                 pipeline: Sequence = (),
                 lazy_init: bool = False,
                 **kwargs) -> None:
        if severity not in LEVELS:
            raise ValueError(f'severity must be an integer from 1 to 5, got {severity!r}.')
        self.corruption = corruption
        self.severity = severity
        rest = without_loading(pipeline)
        self.bgr = len(rest) < len(pipeline)
        super().__init__(ann_file='', data_root=data_root, pipeline=rest, lazy_init=True,
                         **{'test_mode': True, **kwargs})
        self._open()  # a benchmark builds its data sets lazily to learn early what is missing
        if not lazy_init:
            self.full_init()

    def _open(self) -> tuple[np.ndarray, np.ndarray]:
        root = Path(self.data_root).expanduser()
        return (_load(root / f'{self.corruption}.npy', IMAGES_SHAPE),
                _load(root / 'labels.npy', IMAGES_SHAPE[:1]))

    def load_data_list(self) -> list[dict]:
        """Load the images and labels of the cell."""
        images, labels = self._open()
        num_classes = len(self.metainfo['classes'])
        if labels.max() >= num_classes:
            raise ValueError(
                f'{self.data_root}/labels.npy holds labels up to {labels.max()}, '
                f'{type(self).__name__} has {num_classes} classes: it belongs to another data set.')
        rows = slice((self.severity - 1) * ROWS_PER_SEVERITY, self.severity * ROWS_PER_SEVERITY)
        step = -1 if self.bgr else 1
        # contiguous copies: views would keep, and pickle, whole blocks of the file
        return [
            dict(img=np.ascontiguousarray(image[..., ::step]), gt_label=int(label),
                 img_shape=(32, 32), ori_shape=(32, 32))
            for image, label in zip(np.asarray(images[rows]), labels[rows], strict=True)
        ]

    def extra_repr(self) -> list[str]:
        """Say which cell this is."""
        return [f'Cell: \t{self.corruption}, severity {self.severity}',
                f'Root of dataset: \t{self.data_root}']


@DATASETS.register_module(force=True)
class CIFAR100C(CIFAR10C):
    """One cell of CIFAR-100-C; see :class:`CIFAR10C`."""

    METAINFO = CIFAR100.METAINFO
