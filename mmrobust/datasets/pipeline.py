"""Pipelines of data sets: which of their steps load images, and what to say when one fails."""
import re
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.dataset import Compose

from mmrobust.utils.mistakes import InputError

from .images import load_named

LOADING = re.compile(r'(.*\.)?Load\w*Image\w*')
LABEL_LOADING = re.compile(r'(.*\.)?Load\w*Annotation\w*')


def leaves(dataset: Any) -> Iterator[Any]:
    """The data sets inside any wrappers."""
    inner = getattr(dataset, 'datasets', None) or (
        [dataset.dataset] if hasattr(dataset, 'dataset') else [])
    for part in inner:
        yield from leaves(part)
    if not inner:
        yield dataset


def what_it_reads(step: Any) -> str | None:
    """The entry with the path of the file that a step, config or built, reads; None if none."""
    kind = step.get('type') if isinstance(step, dict) else type(step)
    name = kind if isinstance(kind, str) else kind.__name__
    if LOADING.fullmatch(name):
        return 'img_path'
    return 'seg_map_path' if LABEL_LOADING.fullmatch(name) else None


def without_loading(pipeline: Sequence[Any]) -> list[Any]:
    """The steps of a pipeline, configs or built, that do not load an image."""
    return [step for step in pipeline if what_it_reads(step) != 'img_path']


class NamingCompose(Compose):
    """A pipeline whose failures to load say which file was being read, from any process."""

    def __call__(self, data: dict) -> dict | None:
        for step in self.transforms:
            key = what_it_reads(step)
            try:
                data = load_named(step, data, key) if key else step(data)
            except StopIteration as error:  # a loop over the data would take it for their end
                raise InputError(f'{type(step).__name__} raises StopIteration, which ends loops: '
                                 'correct that transform') from error
            except (Exception, KeyboardInterrupt, SystemExit, GeneratorExit):
                raise
            except BaseException as error:  # a worker would print its traceback, and die
                raise InputError(f'{type(step).__name__} raises {type(error).__name__}: {error}: '
                                 'correct that transform') from error
            if data is None:
                return None
        return data


def name_files(dataset: Any) -> None:
    """Let the pipelines of a built data set, wrapped or not, name the files that they fail on."""
    for leaf in leaves(dataset):
        if type(getattr(leaf, 'pipeline', None)) is Compose:
            leaf.pipeline = NamingCompose(leaf.pipeline.transforms)
