"""What a robustness benchmark is made of: cells, and the protocol that names and weighs them."""
import os.path as osp
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from inspect import Parameter, signature
from typing import Any

from mmrobust.utils.results_file import CLEAN

# types of the steps that images of a size of their own do not need
RESIZING = ('Resize', 'ResizeEdge', 'CenterCrop', 'EfficientNetCenterCrop', 'Pad')


@dataclass(frozen=True)
class Cell:
    """One evaluation of a benchmark, and how it differs from the config's own test.

    Args:
        name (str): Row of the table: a corruption type, an attack, a data set.
        severity (int): Column of the table, or number of a draw (of masks); 0 where there is
            only one.
        corruption (dict, optional): Arguments of the transform ``Corrupt``, inserted right after
            the image is loaded.
        corrupted_root (str, optional): Folder ``<root>/<name>/<severity>/<relative path>`` to
            read the images from instead of corrupting them.
        prepare (tuple[dict]): Transforms between loading and corruption. They take the place of
            the pipeline's own resizing and cropping, which would come too late. The image is
            then resized to the size that the config's own pipeline ends with, where that is
            another; a clean cell is prepared only then.
        size (tuple[int, int], optional): Height and width that ready-made images must have.
            Defaults to that of the image that they were made of.
        dataset (dict, optional): Takes the place of the config's test data set; its pipeline
            defaults to the config's.
        dataloader (dict, optional): Settings of the data loader that ``dataset`` needs.
        drop (tuple[str]): Transforms of the config's pipeline that ``dataset`` cannot feed.
        evaluator (dict | list, optional): Takes the place of the config's test evaluator.
        attack (dict, optional): Built from ``TASK_UTILS``, called as ``attack(model,
            data_batch)`` before each test step; returns the batch that the model sees.
    """
    name: str
    severity: int = 0
    corruption: dict | None = None
    corrupted_root: str | None = None
    prepare: tuple[dict, ...] = ()
    size: tuple[int, int] | None = None
    dataset: dict | None = None
    dataloader: dict | None = None
    drop: tuple[str, ...] = ()
    evaluator: dict | list | None = None
    attack: dict | None = None

    @property
    def key(self) -> tuple[str, int]:
        return self.name, self.severity

    @property
    def folder(self) -> str | None:
        """Folder of the ready-made images."""
        if self.corrupted_root is None:
            return None
        return osp.join(self.corrupted_root, self.name, str(self.severity))

    def __str__(self) -> str:
        column = 'severity' if self.attack is None else 'draw'
        return f'{self.name}, {column} {self.severity}' if self.severity else self.name


@dataclass(frozen=True)
class Protocol:
    """The cells of a benchmark, and how their results become one number.

    Args:
        name (str): Name in tables and results files.
        cells (tuple[Cell]): All cells, in the order in which they run.
        headings (dict[str, tuple[str]]): Groups of the table: heading to cell names.
        summary (str): Key of :data:`mmrobust.evaluation.summaries.SUMMARIES`.
        selected (tuple[Cell], optional): The cells to run now. Defaults to all.
        task (str, optional): 'classification' or 'segmentation', where only such models fit.
    """
    name: str
    cells: tuple[Cell, ...]
    headings: dict[str, tuple[str, ...]] = field(default_factory=dict)
    summary: str = 'corruption'
    selected: tuple[Cell, ...] | None = None
    task: str | None = None

    def __post_init__(self) -> None:
        if self.selected is None:
            object.__setattr__(self, 'selected', self.cells)

    def heading(self, name: str) -> str:
        """Heading under which the table lists a cell name ('' without one)."""
        return next((h for h, names in self.headings.items() if name in names), '')

    def layout(self) -> dict[str, dict[str, list[int]]]:
        """Heading to cell names to severities, the clean cell left out."""
        rows: dict[str, dict[str, list[int]]] = {}
        for cell in self.cells:
            if cell.name != CLEAN:
                names = rows.setdefault(self.heading(cell.name), {})
                names.setdefault(cell.name, []).extend([cell.severity] if cell.severity else [])
        return rows

    def select(self, names: Sequence[str] | None, severities: Sequence[int] | None) -> 'Protocol':
        """The same protocol, running only some of its cells (the clean one always runs).

        Raises:
            ValueError: If a name or severity is not part of the protocol, or no cell is left.
        """
        cells = [cell for cell in self.cells if cell.name != CLEAN]
        for kind, wanted, known in (('', names, [c.name for c in cells]),
                                    ('severity ', severities, [c.severity for c in cells])):
            for value in wanted or ():
                if value not in known:
                    choices = ', '.join(map(str, dict.fromkeys(known)))
                    raise ValueError(f'{kind}{value} is not part of {self.name}: '
                                     f'choose from {choices}.')
        chosen = {cell.key for cell in cells
                  if (names is None or cell.name in names)
                  and (severities is None or cell.severity in severities)}
        if not chosen:
            raise ValueError(
                f'{self.name} has no cell of {", ".join(names or ())} at severity '
                f'{", ".join(map(str, severities or ()))}: choose other severities.')
        return replace(self, selected=tuple(
            cell for cell in self.cells if cell.name == CLEAN or cell.key in chosen))


PROTOCOLS: dict[str, Callable[..., Protocol]] = {}
"""Name to a function that makes the protocol; its keyword arguments are the user's options."""


def register_protocol(name: str, **defaults: Any) -> Callable:
    """Decorator: let ``make(name, **options) -> Protocol`` make the protocol ``name``.

    Args:
        name (str): What ``--benchmark`` and ``protocol=`` call it.
        **defaults: Options of ``make`` that the user may still override.
    """
    def register(make: Callable[..., Protocol]) -> Callable[..., Protocol]:
        def build(**options: Any) -> Protocol:
            options = {**defaults, **options}
            known = [p.name for p in signature(make).parameters.values()
                     if p.kind is not Parameter.VAR_KEYWORD][1:]
            for option in options:
                if option not in known:
                    raise unknown(f'option of {name}', option, known)
            seed = options.get('seed', 0)
            if not isinstance(seed, int) or isinstance(seed, bool):
                raise ValueError(f'seed={seed!r} of {name}: it must be a whole number')
            return make(name, **options)

        PROTOCOLS[name] = build
        return make

    return register


def unknown(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for a misspelt name: the nearest ones first, then all."""
    near = get_close_matches(name, known := list(known), n=2)
    hint = f'did you mean {" or ".join(near)}? ' if near else ''
    said = name if len(name) <= 60 else f'{name[:57]}...'
    return ValueError(f'unknown {kind} {said!r}: {hint}known are {", ".join(known)}.')
