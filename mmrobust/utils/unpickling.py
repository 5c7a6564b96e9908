"""A weights-only reader for torch before 2.5, whose own cannot be told what else is harmless.

It builds what torch's reader of that version builds and what :data:`ALLOWED` names. As there, a
file may call only what the two lists name, and may fill only plain containers, tensors and
instances of the listed classes; everything else ends the reading before anything ran.
"""
import _codecs
import collections
import contextlib
import pickle
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import _weights_only_unpickler as torch_reader

# name in a pickle -> what it stands for, besides torch's own list
ALLOWED: dict[str, Any] = {}

# torch allows these from a later version on
_LATER = {
    '_codecs.encode': _codecs.encode,
    'collections.Counter': collections.Counter,
    'torch.device': torch.device,
    **{str(dtype): dtype for dtype in (torch.bool, torch.uint8, torch.bfloat16)},
    **{f'torch._utils.{name}': getattr(torch._utils, name)
       for name in ('_rebuild_parameter_with_state', '_rebuild_qtensor')},
    **{f'{module}.{kind.__name__}': kind for module in ('builtins', '__builtin__')
       for kind in (bytearray, set, complex)},
}


@contextlib.contextmanager
def reading(objects: Iterable[Callable]) -> Iterator[None]:
    """Within the block ``torch.load(..., weights_only=True)`` builds these too."""
    before = dict(ALLOWED), torch.serialization._weights_only_unpickler
    ALLOWED.update({f'{obj.__module__}.{obj.__name__}': obj for obj in objects})
    torch.serialization._weights_only_unpickler = types.SimpleNamespace(
        **{**vars(torch_reader), 'Unpickler': Unpickler, 'load': load})
    try:
        yield
    finally:
        ALLOWED.clear()
        ALLOWED.update(before[0])
        torch.serialization._weights_only_unpickler = before[1]


def _refuse(name: str) -> None:
    # the words of torch's later versions
    raise pickle.UnpicklingError(f'GLOBAL {name} was not an allowed global by default.')


def _filling(step: Callable, depth: int) -> Callable:
    """A step that puts items into a container, as long as it is one.

    The container lies ``depth`` below the top of the stack; 0: below the last mark.
    """
    def checked(self: pickle._Unpickler) -> None:
        target = self.stack[-depth] if depth else self.metastack[-1][-1]
        if type(target) not in (list, dict, set, collections.OrderedDict, collections.Counter,
                                collections.defaultdict):
            _refuse(_name(type(target)))
        step(self)

    return checked


def load(file: Any, *, encoding: str = 'ASCII') -> Any:
    """Read one object, as :func:`pickle.load` does."""
    return Unpickler(file, encoding=encoding).load()


class Unpickler(pickle._Unpickler):
    """Python's own unpickler, with every step closed that reaches further than weights need."""

    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: Any, *, encoding: str = 'ASCII', **_: Any):
        super().__init__(file, encoding=encoding)
        self._names = {**torch_reader._get_allowed_globals(), **_LATER, **ALLOWED}
        self._callables = {id(thing) for thing in self._names.values()}
        self._built = {torch.Tensor, torch.nn.Parameter, collections.OrderedDict,
                       *(thing for thing in ALLOWED.values() if isinstance(thing, type))}

    def find_class(self, module: str, name: str) -> Any:
        """What the lists have under this name."""
        full = f'{module}.{name}'
        if full not in self._names:
            _refuse(full)
        return self._names[full]

    def load_reduce(self) -> None:
        self._check_call(self.stack[-2])
        super().load_reduce()

    def load_newobj(self) -> None:
        self._check_call(self.stack[-2])
        super().load_newobj()

    def load_build(self) -> None:
        state, target = self.stack[-1], self.stack[-2]
        if type(target) not in self._built or not (
                hasattr(target, '__setstate__') or isinstance(state, dict)):
            _refuse(_name(type(target)))
        super().load_build()

    def load_closed(self) -> None:
        """Steps that no file of weights has."""
        raise pickle.UnpicklingError('an instruction that no file of weights has')

    def _check_call(self, function: Any) -> None:
        if id(function) not in self._callables:
            _refuse(_name(function))

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.BUILD[0]] = load_build
    for _step in (pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2,
                  pickle.EXT4):
        dispatch[_step[0]] = load_closed
    for _step, _depth in ((pickle.APPEND, 2), (pickle.SETITEM, 3), (pickle.APPENDS, 0),
                          (pickle.SETITEMS, 0), (pickle.ADDITEMS, 0)):
        dispatch[_step[0]] = _filling(dispatch[_step[0]], _depth)


def _name(thing: Any) -> str:
    name = getattr(thing, '__qualname__', None) or type(thing).__qualname__
    return f'{getattr(thing, "__module__", None)}.{name}'
