"""Training data whose random draws depend on the place of a sample in the run, on nothing else."""
import copy
from collections.abc import Iterator
from itertools import islice
from numbers import Integral
from typing import Any

from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_rank
from mmengine.registry import DATA_SAMPLERS, DATASETS
from torch.utils.data import DataLoader, Sampler

from mmrobust.datasets.completeness import check_complete

from .random_state import seeded, undisturbed


class Draw(int):
    """Index of a sample that knows its place: the epoch, the process, and the place therein."""

    place: tuple[int, ...]

    def __new__(cls, index: int, place: tuple[int, ...]) -> 'Draw':
        draw = super().__new__(cls, index)
        draw.place = place
        return draw

    def __getnewargs__(self) -> tuple:
        return int(self), self.place


class NumberedDataset:
    """Any data set; its augmentations are seeded by the run's seed and the :class:`Draw`.

    So they depend neither on the worker that makes them nor on what it made before.

    Args:
        dataset (dict | Dataset): The data set, or its config.
        seed (int): Seed of the run.
    """

    __getitems__ = None  # of the data set within, it would get round the seeding

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.seed = seed

    def __getattr__(self, name: str) -> Any:
        if name == 'dataset' or name.startswith('__'):  # while it is copied or unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        if not isinstance(index, Draw):
            return self.dataset[index]
        with seeded(self.seed, *index.place):
            return self.dataset[int(index)]


class NumberedSampler(Sampler):
    """Any sampler of indices, or of batches of them; it numbers them and can start anywhere.

    Args:
        inner (dict | Sampler): The sampler, or its config.
        **defaults: What MMEngine gives to it: data set and seed, or sampler and batch size.
    """

    def __init__(self, inner: Any, **defaults: Any) -> None:
        self.inner = DATA_SAMPLERS.build(inner, default_args=defaults) \
            if isinstance(inner, dict) else inner
        self.epoch = 0
        self._start = 0

    def __getattr__(self, name: str) -> Any:
        if name == 'inner' or name.startswith('__'):
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __len__(self) -> int:
        return len(self.inner)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        for sampler in (self.inner, getattr(self.inner, 'sampler', None)):
            if hasattr(sampler, 'set_epoch'):
                sampler.set_epoch(epoch)

    def start_at(self, position: int) -> None:
        """Let the next pass begin after the first ``position`` entries."""
        self._start = position

    def __iter__(self) -> Iterator[Any]:
        start, self._start = self._start, 0
        place = (self.epoch, get_rank())
        for number, entry in enumerate(islice(iter(self.inner), start, None), start):
            if isinstance(entry, Integral):
                yield Draw(entry, (*place, number))
            elif isinstance(entry, (list, tuple)) and all(isinstance(i, Integral) for i in entry):
                yield [Draw(index, (*place, number, i)) for i, index in enumerate(entry)]
            else:
                yield entry


def numbered(dataloader: dict, seed: int) -> dict:
    """The config of a data loader with numbered draws.

    Args:
        dataloader (dict): As MMEngine's runner builds it.
        seed (int): Seed of the run.
    """
    dataloader = copy.copy(dataloader)
    dataloader['dataset'] = dict(type=NumberedDataset, dataset=dataloader['dataset'], seed=seed)
    sampler = 'batch_sampler' if dataloader.get('batch_sampler') else 'sampler'
    dataloader[sampler] = dict(type=NumberedSampler, inner=dataloader[sampler])
    return dataloader


def batches_from(loader: DataLoader, epoch: int, first: int) -> Iterator[Any]:
    """The batches of an epoch from the ``first`` on, without loading those before it.

    Starting a loader draws from the global generator; here that leaves no trace.

    Raises:
        ValueError: If the data end before all batches are there: a StopIteration within a data
            set would pass for their end.
    """
    sampler, unit = loader.sampler, loader.batch_size
    if not isinstance(sampler, NumberedSampler):
        sampler, unit = loader.batch_sampler, 1
    if isinstance(sampler, NumberedSampler):
        sampler.set_epoch(epoch)
        sampler.start_at(first * unit)
    with undisturbed():
        iterator = iter(loader)
    if not isinstance(sampler, NumberedSampler):  # a loader that the user built
        iterator = islice(iterator, first, None)
    count = first
    for batch in iterator:
        yield batch
        count += 1
    check_complete(loader, count)


def endless_batches(loader: DataLoader, first: int) -> Iterator[Any]:
    """Batches of one epoch after another, from the ``first`` on.

    Raises:
        ValueError: If the loader has none.
    """
    if len(loader) == 0:
        raise ValueError('the training data do not fill one batch: lower '
                         'train_dataloader.batch_size, or set drop_last=False')
    inner = getattr(loader.sampler, 'inner', loader.sampler)
    epoch = 0
    if not isinstance(inner, InfiniteSampler):
        epoch, first = divmod(first, len(loader))
    while True:
        yield from batches_from(loader, epoch, first)
        epoch, first = epoch + 1, 0
