"""Pipelines of data sets: where they are, which of their steps load images, and what follows."""
import copy
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mmengine.dataset import Compose

from mmrobust.utils.mistakes import InputError

from .images import load_named

LOADING = re.compile(r'(.*\.)?Load\w*Image\w*')
LABEL_LOADING = re.compile(r'(.*\.)?Load\w*Annotation\w*')


NESTED = ('transforms', 'subroutines')  # attributes in which wrappers keep their transforms
WRAPPED = ('datasets', 'dataset', '_dataset')  # attributes in which data sets keep others


def wrapped(dataset: Any) -> list[Any]:
    """The data sets, configs or built, right inside a wrapper; none of one that is no wrapper."""
    def get(name: str) -> Any:
        return (dataset.get(name) if isinstance(dataset, dict) else getattr(dataset, name, None))

    several, *one = WRAPPED
    return list(get(several) or [part for name in one if (part := get(name)) is not None])


def leaves(dataset: Any) -> Iterator[Any]:
    """The data sets, configs or built, inside any wrappers."""
    parts = wrapped(dataset)
    for part in parts:
        yield from leaves(part)
    if not parts:
        yield dataset


def image_root(dataset: Any) -> str | None:
    """The folder of a data set's images."""
    prefix = getattr(dataset, 'data_prefix', None) or {}
    return prefix.get('img_path') or prefix.get('img') or getattr(dataset, 'data_root', None)


def what_it_reads(step: Any) -> str | None:
    """The entry with the path of the file that a step, config or built, reads; None if none."""
    kind = step.get('type') if isinstance(step, dict) else type(step)
    names = [cls.__name__ for cls in kind.__mro__] if isinstance(kind, type) else [str(kind)]
    if any(map(LOADING.fullmatch, names)):
        return 'img_path'
    return 'seg_map_path' if any(map(LABEL_LOADING.fullmatch, names)) else None


def without_loading(pipeline: Sequence[Any]) -> list[Any]:
    """The steps of a pipeline, configs or built, that do not load an image."""
    return [step for step in pipeline if what_it_reads(step) != 'img_path']


def replace_loading(transforms: Sequence[Any], edit: Callable[[Any], list]
                    ) -> tuple[list, bool]:
    """Put ``edit(transform)`` in the place of each transform that loads an image, nested or not.

    Returns:
        tuple[list, bool]: New transforms (the given ones stay as they are), and whether one of
        them loads an image.
    """
    edited, found = [], False
    for transform in transforms:
        if what_it_reads(transform) == 'img_path':
            edited += edit(transform)
            found = True
            continue
        for name in NESTED:
            nested = getattr(transform, name, None)
            compose = hasattr(nested, 'transforms')
            if not compose and not isinstance(nested, (list, tuple)):
                continue
            inner, inner_found = replace_loading(nested.transforms if compose else nested, edit)
            if inner_found:
                if compose:
                    nested = copy.copy(nested)
                    nested.transforms = inner
                transform = copy.copy(transform)
                setattr(transform, name, nested if compose else inner)
                found = True
        edited.append(transform)
    return edited, found


def edit_loading(transforms: Sequence[Any], dataset: Any, edit: Callable[[Any], list]
                 ) -> list | None:
    """Put ``edit(transform)`` in the place of what loads the images of a built data set.

    Those are the transforms whose names say so; where there are none, the first one after which
    there is an image.

    Returns:
        list, optional: New transforms; None if none of them loads an image.
    """
    edited, found = replace_loading(transforms, edit)
    if found:
        return edited
    at = loading_step(transforms, dataset.get_data_info(0))
    if at is None:
        return None
    return [*transforms[:at], *edit(transforms[at]), *transforms[at + 1:]]


def loading_step(transforms: Sequence[Any], results: dict) -> int | None:
    """Place of the step after which there is an image, where there was none before."""
    if 'img' in results:
        return None
    for place, transform in enumerate(transforms):
        try:
            results = transform(results)
        except Exception:  # it needs an image already
            return None
        if not isinstance(results, dict):
            return None
        if 'img' in results:
            return place
    return None


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
