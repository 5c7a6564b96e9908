"""The identity of a run: everything that changes a number, as it was built, in plain data.

Results belong together when their identities are equal; where they are not,
:func:`mmrobust.utils.results_file.differences` says in words what differs. Long things are kept
as digests, which begin with ``#``.
"""
import functools
import hashlib
import inspect
import json
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mmrobust.corruptions.signature import signature
from mmrobust.datasets.pipeline import WRAPPED, image_root, wrapped
from mmrobust.datasets.transforms.corrupt import relative_path
from mmrobust.utils.results_file import flatten

from .pipeline_switch import leaf_datasets
from .protocols import Cell, Protocol

# They change where files lie, how fast a run is or what is logged, not what it computes.
IRRELEVANT = {
    'init_cfg', 'pretrained', 'work_dir', 'output_dir', 'submission_dir', 'out_file_path',
    'collect_device', 'collect_dir', 'lazy_init', 'serialize_data', 'persistent_workers',
    'backend_args', 'file_client_args', 'file_client', 'file_backend', 'meta_keys', 'results',
    'train_cfg', 'logger', 'data_root', 'data_prefix', 'ann_file', 'root', '_dataset_meta',
    'dataset_meta',
    'process_group'}
_INTERNAL = {*vars(nn.Module()), '_is_init', '_params_init_info', '_device', '_non_blocking'}
# of a host library or below it; a version of these is the user's environment, not his code
_LIBRARIES = {*sys.stdlib_module_names, 'torch', 'torchvision', 'timm', 'mmcv', 'mmengine', 'mmseg',
              'mmpretrain', 'mmdet', 'mmrobust', 'numpy'}
# normalisation over processes is the ordinary one in a test
_SAME = {'SyncBatchNorm': 'BatchNorm2d', '_BatchNormXd': 'BatchNorm2d', 'MMSyncBN': 'BatchNorm2d'}
SMALL = 16
READ_WHOLE = 32
PIECE = 1 << 19


def digest(value: Any) -> str:
    """Digest of plain data, independent of the order of keys."""
    text = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True).encode()
    return '#' + hashlib.blake2b(text, digest_size=16).hexdigest()


def describe(value: Any, within: tuple[int, ...] = ()) -> Any:
    """How something was built, as plain data: its type and its settings, at any depth."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, np.generic):
        return describe(value.item())
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return _array(value)
    if id(value) in within or len(within) > 8:
        return type(value).__name__
    within = (*within, id(value))
    if isinstance(value, Mapping):
        return {str(key): describe(item, within) for key, item in value.items()
                if key not in IRRELEVANT}
    if isinstance(value, (list, tuple)):
        return [describe(item, within) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((describe(item, within) for item in value), key=str)
    if isinstance(value, functools.partial):
        return dict(type=_name(value.func), args=describe(value.args, within),
                    keywords=describe(value.keywords, within))
    if isinstance(value, re.Pattern):
        return value.pattern
    if isinstance(value, nn.Module):
        return dict(type=_name(type(value)), state=state_digest(value))
    if isinstance(value, type) or not hasattr(value, '__dict__') or inspect.isroutine(value):
        return _name(value)
    settings = {key: item for key, item in vars(value).items() if key not in IRRELEVANT}
    return {'type': _name(type(value)), **describe(settings, within)}


def _name(value: Any) -> str:
    name = getattr(value, '__qualname__', type(value).__qualname__)
    return _SAME.get(name, name)


def _array(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        small = value.numel() <= SMALL
        data = value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    else:
        small = value.size <= SMALL
        data = np.ascontiguousarray(value).tobytes()
    if small:  # seven digits are what float32 holds
        return [float(f'{item:.7g}') if isinstance(item, float) and math.isfinite(item) else
                describe(item) for item in value.reshape(-1).tolist()]
    return digest(f'{value.dtype} {tuple(value.shape)} '.encode() + data)


def state_digest(model: nn.Module) -> str:
    """Digest of a model's parameters and buffers, saved or not, whatever file they came from."""
    model = getattr(model, 'module', model)
    state = hashlib.blake2b(digest_size=16)
    tensors = {**model.state_dict(), **dict(model.named_parameters()),
               **dict(model.named_buffers())}
    for name, tensor in sorted(tensors.items()):
        if not isinstance(tensor, torch.Tensor) or 'data_preprocessor' in name.split('.'):
            continue  # the preprocessor is described in words
        state.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}'.encode())
        data = tensor.detach().cpu().contiguous().reshape(-1)
        state.update(data.view(torch.uint8).numpy())
    return '#' + state.hexdigest()


def _model_parts(model: nn.Module) -> dict[str, dict]:
    """Settings of a model and of its data preprocessor; of what lies deeper, one digest each."""
    model = getattr(model, 'module', model) if 'Parallel' in type(model).__name__ else model
    parts: dict[str, dict] = {'model': {}, 'data preprocessor': {}}
    deeper: dict[str, list] = {}
    for name, module in model.named_modules():
        own = {key: value for key, value in vars(module).items()
               if key not in _INTERNAL and key not in IRRELEVANT}
        own |= {key: module._buffers[key] for key in sorted(module._non_persistent_buffers_set)
                if module._buffers.get(key) is not None}
        settings = {key.strip('_'): value for key, value in describe(own, (id(model),)).items()}
        settings['type'] = _name(type(module))
        first, _, rest = name.partition('.')
        # within a wrapper for augmentation the model is one level deeper
        if 'data_preprocessor' in name.split('.'):
            parts['data preprocessor'] |= settings
        elif rest:
            deeper.setdefault(f'layers of {first}', []).append([rest, settings])
        else:
            prefix = f'{name}.' if name else ''
            parts['model'] |= {prefix + key: value for key, value in settings.items()}
    parts['model'] |= {key: digest(value) for key, value in deeper.items()}
    return parts


def _own_code(objects: Iterable[Any]) -> dict[str, str]:
    """Digests of the source files of classes that belong to no library."""
    modules = {cls.__module__ for item in objects for cls in type(item).__mro__}
    code = {}
    for name in sorted(modules):
        if name.split('.')[0] in _LIBRARIES or name not in sys.modules:
            continue
        path = getattr(sys.modules[name], '__file__', None)
        if path and path.endswith('.py') and 'site-packages' not in path and os.path.isfile(path):
            code[Path(path).name] = digest(Path(path).read_bytes())
    return code


def _local(path: Any) -> bool:
    return isinstance(path, (str, os.PathLike)) and '://' not in str(path)


def _content(path: str) -> bytes:
    """The beginning and the end of a file."""
    try:
        with open(path, 'rb') as file:
            begin = file.read(PIECE)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(PIECE, size - PIECE))
            return begin + file.read(PIECE)
    except OSError:  # whoever reads it says so
        return b''


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def samples(dataset: Any) -> dict[str, Any]:
    """What a data set holds, wherever it lies: names, annotations, and the files themselves.

    Of local files all sizes count, and the contents of up to :data:`READ_WHOLE`.
    """
    count, named, noted, files = 0, [], [], []
    classes = None
    for leaf in leaf_datasets(dataset):
        classes = (getattr(leaf, 'metainfo', None) or {}).get('classes', classes)
        prefixes = getattr(leaf, 'data_prefix', None)
        prefixes = prefixes if isinstance(prefixes, Mapping) else {}
        length = len(leaf)
        whole = set(np.linspace(0, length - 1, min(length, READ_WHOLE)).astype(int).tolist())
        for index in range(length):
            info = dict(leaf.get_data_info(index)) if hasattr(leaf, 'get_data_info') else {}
            names = []
            for key in [key for key in info if key.endswith('_path')]:
                path = info.pop(key)
                if not isinstance(path, (str, os.PathLike)):
                    continue
                root = prefixes.get(key) or image_root(leaf)
                names.append(relative_path(os.fspath(path), root))
                if _local(path):
                    files.append((names[-1], _size(path),
                                  digest(_content(path)) if index in whole else ''))
            if names:
                info.pop('sample_idx', None)
            named.append(names or [index])
            noted.append([named[-1], digest(describe(info))])
        count += length
    return {'number of samples': len(dataset) if hasattr(dataset, '__len__') else count,
            'names of samples': digest(sorted(map(str, named))),
            'annotations': digest(sorted(map(str, noted))),
            'contents of files': digest(sorted(map(str, files))),
            'classes': len(classes) if classes is not None else None,
            'names of classes': digest(describe(classes)),
            'wrappers': _wrappers(dataset)}


def _wrappers(dataset: Any) -> Any:
    """What lies around the data sets and picks from them: a digest, or None."""
    if not (inner := wrapped(dataset)):
        return None
    own = {key: value for key, value in vars(dataset).items()
           if key not in (*WRAPPED, 'metainfo', '_metainfo')}
    return digest([_name(type(dataset)), describe({
        key: value for key, value in own.items() if not key.startswith('_')}),
        [_wrappers(part) for part in inner]])


def source(cell: Cell, dataset: Any = None) -> str | None:
    """What a cell's images are made of: a digest, None for those of the config itself.

    Args:
        cell (Cell): The cell.
        dataset: The data set built for it, or whose images have a ready-made copy.
    """
    if cell.corruption:
        return '#' + signature(cell.corruption['name'], cell.corruption['severity'],
                               cell.corruption.get('family', 'imagenet'))
    if cell.dataset is not None:
        return digest(samples(dataset))
    if cell.corrupted_root is not None:
        return digest(list(_ready_made(cell.folder, dataset)))
    return None


def _ready_made(folder: str, dataset: Any) -> Iterator[tuple]:
    from mmrobust.datasets.transforms.read_image import find_corrupted

    for leaf in leaf_datasets(dataset):
        whole = set(np.linspace(0, len(leaf) - 1, min(len(leaf), 8)).astype(int).tolist())
        for index in range(len(leaf)):
            name = relative_path(leaf.get_data_info(index)['img_path'], image_root(leaf))
            path = find_corrupted(folder, name)
            yield name, _size(path), digest(_content(path)) if index in whole else ''


def _protocol(protocol: Protocol) -> dict:
    """Settings that all cells share by name, and a digest of everything.

    Folders do not count: what is in them does, see :func:`source`.
    """
    cells = []
    for cell in protocol.cells:
        own = {key: value for key, value in asdict(cell).items() if value not in (None, (), {})}
        own['ready_made'] = own.pop('corrupted_root', None) is not None
        if isinstance(chosen := (cell.attack or {}).get('chosen_by'), str) and os.path.isfile(
                chosen):
            own['attack'] = dict(own['attack'], chosen_by=digest(Path(chosen).read_bytes()))
        cells.append(describe(own))
    flat = [dict(flatten({key: value for key, value in cell.items()
                          if key in ('corruption', 'dataset', 'attack', 'evaluator')}))
            for cell in cells]
    shared = {}
    for key in dict.fromkeys(key for own in flat for key in own):
        values = [own[key] for own in flat if key in own]
        if len(values) > 1 and all(value == values[0] for value in values):
            shared[key.rpartition('.')[2]] = values[0]
    return {**shared, 'ready-made images': any(cell['ready_made'] for cell in cells),
            'cells': digest([cells, protocol.summary])}


def identity(model: nn.Module, dataset: Any, evaluator: Any, protocol: Protocol, *,
             own_data: bool = True, fp16: bool = False, loader: Mapping[str, Any] | None = None,
             averaged: Iterable[nn.Module] = ()) -> dict[str, Any]:
    """All that decides a result, by parts.

    Args:
        model (nn.Module): The model with the weights to be tested, as built.
        dataset: A data set of the protocol, as built, with the pipeline of the config.
        evaluator: The config's own, as built, where the protocol uses it; else None.
        protocol (Protocol): The protocol; which of its cells are selected does not matter.
        own_data (bool): Whether the data set is the config's own, so that what it holds belongs
            to all cells; what others hold is kept with their cells, see :func:`source`.
        fp16 (bool): Whether the test runs under autocast.
        loader (Mapping, optional): Settings of the data loader that change what is read.
        averaged (Iterable[nn.Module]): Averaged copies of the model that are tested in its place.
    """
    parts: dict[str, Any] = dict(
        weights=dict(digest=state_digest(model), averaged=[state_digest(m) for m in averaged],
                     autocast=fp16), **_model_parts(model))
    leaves = leaf_datasets(dataset)
    objects = [*model.modules(), *leaves,
               *(step for leaf in leaves for step in leaf.pipeline.transforms)]
    if own_data:
        parts['data'] = {**samples(dataset), **describe(loader or {})}
    parts['pipeline'] = [describe(list(leaf.pipeline.transforms)) for leaf in leaves]
    if evaluator is not None:
        objects += evaluator.metrics
        parts['metric'] = [describe(metric) for metric in evaluator.metrics]
    parts |= {'protocol': _protocol(protocol), "user's code": _own_code(objects)}
    return json.loads(json.dumps(parts))
