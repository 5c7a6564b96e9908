"""A part of any data set, chosen by the names of its samples."""
import os
from collections.abc import Mapping
from typing import Any

from mmengine.registry import DATASETS

from mmrobust.corruptions.seeding import image_seed

from .pipeline import image_root, leaves
from .transforms.corrupt import relative_path


@DATASETS.register_module(force=True)
class NamedSubset:
    """So many samples of a data set, the same ones wherever it lies and in whatever order.

    Each sample is drawn by its file's path within the data set (its index where it has none), so
    that clean and corrupted copies give the same images. They keep their order.

    Args:
        dataset (dict | Any): The data set, as a config or built, wrapped or not.
        size (int): How many samples.
        seed (int): Selects other ones. Defaults to 0.

    Raises:
        ValueError: If the size is not positive, or more than there are.
    """

    def __init__(self, dataset: Any, size: int, seed: int = 0) -> None:
        check_size(size)
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset
        self.size = size
        self.seed = seed
        if hasattr(self.dataset, 'full_init'):
            self.dataset.full_init()
        if size > len(self.dataset):
            raise ValueError(f'subset={size} of {len(self.dataset)} samples of '
                             f'{type(self.dataset).__name__}: ask for fewer, or leave it out')
        root = image_root(next(leaves(self.dataset)))
        draws = sorted((self._draw(index, root), index) for index in range(len(self.dataset)))
        self._indices = sorted(index for _, index in draws[:size])

    def _draw(self, index: int, root: str | None) -> int:
        info = (self.dataset.get_data_info(index) if hasattr(self.dataset, 'get_data_info')
                else {})
        path = info.get('img_path') if isinstance(info, dict) else None
        name = relative_path(path, root) if path else str(index)
        # files of corrupted copies may have another suffix
        return image_seed(os.path.splitext(name)[0], 'subset', 0, self.seed)

    @property
    def metainfo(self) -> dict:
        return getattr(self.dataset, 'metainfo', {})

    def full_init(self) -> None:
        """It is, from the beginning."""

    def get_data_info(self, index: int) -> dict:
        return self.dataset.get_data_info(self._indices[index])

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[self._indices[index]]


def check_size(size: Any) -> None:
    """Raise ValueError unless a subset can have this size."""
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise ValueError(f'subset={size}: give a whole number of samples, at least 1')
