"""A part of any data set, chosen by the names of its samples."""
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.registry import DATASETS

from mmrobust.corruptions.seeding import image_seed

from .pipeline import image_root, leaves
from .transforms.corrupt import relative_path


@DATASETS.register_module(force=True)
class NamedSubset:
    """Some samples of a data set, the same ones wherever it lies and in whatever order.

    Each sample is known by its file's path within the data set without suffix (its index where it
    has none), so that clean and corrupted copies give the same images. They keep their order.

    Args:
        dataset (dict | Any): The data set, as a config or built, wrapped or not.
        samples (int | str): How many are drawn, or a text file with one name per line: the path
            within the data set, or the file's name alone where only one sample has it.
        seed (int): Draws other ones. Defaults to 0.

    Raises:
        ValueError: If the number is not positive or more than there are, or if names are unknown,
            of several samples, or none.
    """

    def __init__(self, dataset: Any, samples: int | str, seed: int = 0) -> None:
        check_samples(samples)
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset
        self.samples = samples
        self.seed = seed
        if hasattr(self.dataset, 'full_init'):
            self.dataset.full_init()
        root = image_root(next(leaves(self.dataset)))
        names = [self._name(index, root) for index in range(len(self.dataset))]
        self._indices = sorted(self._listed(names) if isinstance(samples, str)
                               else self._drawn(names))

    def _name(self, index: int, root: str | None) -> str:
        info = (self.dataset.get_data_info(index) if hasattr(self.dataset, 'get_data_info')
                else {})
        path = info.get('img_path') if isinstance(info, dict) else None
        # files of corrupted copies may have another suffix
        return os.path.splitext(relative_path(path, root) if path else str(index))[0]

    def _drawn(self, names: list[str]) -> list[int]:
        if self.samples > len(names):
            raise ValueError(f'subset={self.samples} of {len(names)} samples of '
                             f'{type(self.dataset).__name__}: ask for fewer, or leave it out')
        order = sorted((image_seed(name, 'subset', 0, self.seed), index)
                       for index, name in enumerate(names))
        return [index for _, index in order[:self.samples]]

    def _listed(self, names: list[str]) -> set[int]:
        paths = {name: index for index, name in enumerate(names)}
        short = [os.path.basename(name) for name in names]
        count, places = Counter(short), {name: index for index, name in enumerate(short)}
        found = set()
        for line in Path(self.samples).read_text(errors='surrogateescape').splitlines():
            name = os.path.splitext(line.strip())[0]
            alone = os.path.basename(name)
            if not name:
                continue
            if name not in paths and count[alone] != 1:
                raise ValueError(
                    f'subset={self.samples}: {line.strip()} is the name of {count[alone] or "no"} '
                    f'samples of {type(self.dataset).__name__}: give paths within the data set, '
                    f'such as {names[0] if names else "one of its files"}')
            found.add(paths[name] if name in paths else places[alone])
        if not found:
            raise ValueError(f'subset={self.samples} names no sample: give one name per line')
        return found

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


def check_samples(samples: Any) -> None:
    """Raise ValueError unless a subset can be so many samples, or those of such a file."""
    if isinstance(samples, str):
        if not Path(samples).is_file():
            raise ValueError(f'subset={samples}: give a number of samples, or a text file with '
                             'their names, one per line')
    elif not isinstance(samples, int) or isinstance(samples, bool) or samples < 1:
        raise ValueError(f'subset={samples}: give a whole number of samples, at least 1')
