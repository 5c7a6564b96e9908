"""Reading checkpoints without running what they contain, and writing them whole or not at all."""
import argparse
import json
import os
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmrobust.utils.compat import OutOfMemoryError, safe_globals
from mmrobust.utils.files import write_atomically

from .conversion import has_official_names
from .weights import remember, tidy

STATISTICS = ('min', 'max', 'current', 'mean')
CONVERTER = 'python tools/converters/convert_official.py'
FORCE_SAFE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
OBJECT = re.compile(r'\w+(\.\w+)+')  # what other formats resemble is no name


def load_foreign(path: str | Path, trust: bool = False, map_location: Any = 'cpu') -> Any:
    """Read a checkpoint of any origin without running code from it.

    Beyond tensors and plain containers it may hold what checkpoints of timm and MMEngine hold:
    ``argparse.Namespace``, NumPy arrays and scalars, MMEngine's ``HistoryBuffer``.

    Args:
        path (str | Path): ``.pth``, ``.pth.tar``, ``.pt`` or ``.safetensors`` file.
        trust (bool): Whether to run what a file that needs more asks for. Defaults to False.
        map_location: As of :func:`torch.load`. Defaults to ``'cpu'``.

    Returns:
        What the file holds; of a safetensors file ``dict(state_dict=..., meta=...)``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is empty or damaged, or needs an object that is not allowed.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint '{path}': check the path, or write it "
                                f"from the authors' file with `{CONVERTER} SRC {path}`")
    if path.stat().st_size == 0:
        raise ValueError(f"'{path}' is empty: fetch or write the checkpoint again")
    try:
        if path.suffix == '.safetensors':
            return _load_safetensors(path)
        _check_sums(path)
        with safe_globals(allowed_objects()), warnings.catch_warnings():
            warnings.filterwarnings('ignore', 'Detected pickle protocol')
            return torch.load(path, map_location=map_location, weights_only=True)
    except (PermissionError, MemoryError, OutOfMemoryError):
        raise
    except Exception as error:  # damaged bytes can raise anything
        needed = _refused_objects(error, path)
        if not needed:
            raise ValueError(f"'{path}' is damaged or no checkpoint ({type(error).__name__}): "
                             'fetch or write it again') from error
        if not trust:
            raise ValueError(
                f"'{path}' asks to run {', '.join(needed)}, which no checkpoint of weights "
                'needs: if you trust where the file comes from, --trust runs it') from None
    return torch.load(path, map_location=map_location, weights_only=False)


@contextmanager
def guard_loading(trust: bool = False) -> Iterator[None]:
    """Within the context, every checkpoint that MMEngine reads goes through :func:`load_foreign`.

    It serves ``load_from``, ``resume``, ``init_cfg`` and MMEngine's ``load_checkpoint``. What
    MMEngine downloads is read by torch's weights-only reader too. All of it goes through
    :func:`tidy`. Afterwards all is as before.

    Args:
        trust (bool): Whether to read as MMEngine does, running what files ask for.
            Defaults to False.
    """
    from mmengine.runner import CheckpointLoader

    def load_from_local(filename: str, map_location: Any = None) -> Any:
        return load_foreign(filename, trust, map_location)

    usual = dict(CheckpointLoader._schemes)
    forced = os.environ.get(FORCE_SAFE)
    with ExitStack() as stack:
        for prefix, loader in {**usual, '': load_from_local}.items():
            CheckpointLoader.register_scheme(prefix, _tidying(loader), force=True)
            stack.callback(CheckpointLoader.register_scheme, prefix, usual[prefix], force=True)
        if not trust:
            # the loaders of URLs call torch.load themselves
            stack.enter_context(safe_globals(allowed_objects()))
            os.environ[FORCE_SAFE] = '1'
            stack.callback(_set_environment, FORCE_SAFE, forced)
        yield


def _set_environment(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _tidying(loader: Callable) -> Callable:
    """A loader of MMEngine's whose checkpoints are tidy."""

    @wraps(loader)
    def load(filename: str, map_location: Any = None) -> Any:
        checkpoint = loader(filename, map_location)
        if isinstance(checkpoint, Mapping) and has_official_names(checkpoint):
            raise ValueError(f"'{filename}' has the authors' key names: convert it first with "
                             f'`{CONVERTER} {filename} CONVERTED.pth`')
        checkpoint = tidy(checkpoint, f"'{filename}'")
        remember(filename, checkpoint)
        return checkpoint

    return load


def save_checkpoint(checkpoint: Mapping, path: str | Path) -> None:
    """Write ``dict(state_dict=..., meta=...)`` atomically, as the suffix of the path says.

    Args:
        checkpoint (Mapping): The checkpoint; a safetensors file keeps these two entries only.
        path (str | Path): A ``.safetensors`` file, else one for :func:`torch.load`.
    """
    path = Path(path).expanduser()

    def write(temporary: str) -> None:
        if path.suffix == '.safetensors':
            from safetensors import SafetensorError
            from safetensors.torch import save_file
            weights = {k: v.contiguous() for k, v in checkpoint['state_dict'].items()}
            try:
                save_file(weights, temporary, {'meta': json.dumps(checkpoint.get('meta', {}))})
            except SafetensorError as error:
                raise OSError(str(error)) from error
            return
        with open(temporary, 'wb') as file:
            try:
                torch.save(dict(checkpoint), file)
            except RuntimeError as error:  # hides that the disk is full
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise

    write_atomically(path, write)


def allowed_objects() -> list[Callable]:
    """What a checkpoint may name besides what torch's weights-only reader allows anyway."""
    from mmengine.logging import HistoryBuffer

    def statistic(owner: type, name: str) -> Callable:
        """The one use of getattr: MMEngine's buffers name their methods."""
        if owner is not HistoryBuffer or name not in STATISTICS:
            owner = getattr(owner, '__name__', type(owner).__name__)
            raise pickle.UnpicklingError(f'GLOBAL getattr({owner},{name}) was not an allowed '
                                         'global by default.')
        return getattr(owner, name)

    # NumPy 1 and 2 write different module names
    reconstruct, scalar = np.zeros(0).__reduce__()[0], np.float64(0).__reduce__()[0]
    numpy = [_named(function, f'numpy.{core}.multiarray.{name}')
             for core in ('core', '_core')
             for name, function in (('_reconstruct', reconstruct), ('scalar', scalar))]
    # no 'O': arrays of objects are not needed
    dtypes = {type(np.dtype(code)) for code in '?bhilqBHILQefdgFDGUS'}
    return [argparse.Namespace, np.ndarray, np.dtype, *dtypes, *numpy, HistoryBuffer,
            _named(statistic, 'builtins.getattr'), _named(statistic, '__builtin__.getattr')]


def _named(function: Callable, name: str) -> Callable:
    """The function under the name by which a pickle asks for it."""

    def call(*args):
        return function(*args)

    call.__module__, _, call.__name__ = name.rpartition('.')
    call.__qualname__ = call.__name__
    return call


def _check_sums(path: Path) -> None:
    """Compare a file's contents with their check sums, at which torch's reader does not look.

    Raises:
        ValueError: If bytes have changed since it was written.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise ValueError(f'check sum of {damaged}')


def _refused_objects(error: Exception, path: Path) -> list[str]:
    """What the weights-only reader refused to run; nothing if it failed otherwise."""
    if not isinstance(error, pickle.UnpicklingError):
        return []
    refused = re.findall(r'GLOBAL (\S+) (?:was not|whose module)', str(error))[:1]
    if not zipfile.is_zipfile(path):
        # a bare pickle: the reader stops before, or long before, the object that matters
        with path.open('rb') as file:
            refused += [name for name in _named_in_pickle(file) if OBJECT.fullmatch(name)
                        and not name.startswith(('torch.', 'collections.', '_codecs.'))]
    return list(dict.fromkeys(refused))


def _named_in_pickle(file) -> Iterator[str]:
    """Objects that a pickle names, found without loading it; stops at the first bad byte."""
    strings, memo = [], []
    try:
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name in ('GLOBAL', 'INST'):
                yield argument.replace(' ', '.')
            elif opcode.name == 'STACK_GLOBAL':
                yield '.'.join(strings[-2:])
            elif opcode.name == 'MEMOIZE':
                memo.append(strings[-1] if strings else '')
            elif opcode.name in ('BINGET', 'LONG_BINGET'):
                strings.append(memo[argument])
            elif isinstance(argument, str):
                strings.append(argument)
    except (ValueError, IndexError):
        return


def _load_safetensors(path: Path) -> dict:
    from safetensors import safe_open
    with safe_open(path, framework='pt') as file:
        meta = json.loads((file.metadata() or {}).get('meta', '{}'))
        return dict(state_dict={k: file.get_tensor(k) for k in file.keys()}, meta=meta)
