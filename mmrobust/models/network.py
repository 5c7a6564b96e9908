"""Networks that know nothing of OpenMMLab, as parts of its models.

A plain ``torch.nn.Module`` or an exported file takes the place of the backbone; the head hands
its logits on. So prediction, metrics and benchmarks are the host libraries' own and ours.
"""
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmrobust.utils.mistakes import reading

FACTS = 'mmrobust'  # the entry of a file's metadata that says what it takes
# suffix of an exported file -> what it holds
EXPORTED = {'.onnx': 'ONNX', '.torchscript': 'TorchScript', '.pt2': 'torch.export'}


def is_exported(path: Any) -> bool:
    """Whether something is the path of a network that :mod:`mmrobust.apis.export` writes."""
    return isinstance(path, (str, Path)) and Path(path).suffix in EXPORTED


def logits_of(answer: Any, output: str | int | Callable | None = None) -> Tensor:
    """The logits in what a network returns.

    Args:
        answer: A tensor, or what contains one: torchvision's segmenters return a dict with
            ``out``, models of transformers an object with ``logits``.
        output (str | int | Callable, optional): The entry that holds them, or a function that
            takes them out. Defaults to the tensor itself, ``logits`` or ``out``.

    Raises:
        ValueError: If they cannot be found.
    """
    if callable(output):
        found = output(answer)
    elif output is not None:
        try:
            found = getattr(answer, output) if isinstance(output, str) and hasattr(
                answer, output) and not isinstance(answer, Mapping) else answer[output]
        except (LookupError, TypeError):
            raise ValueError(f'the network returns {_kind(answer)} without the entry {output!r}: '
                             'name another with output=') from None
    elif isinstance(answer, Tensor):
        found = answer
    elif isinstance(answer, Mapping):
        found = next((answer[name] for name in ('logits', 'out') if name in answer), None)
    else:
        found = getattr(answer, 'logits', None)
    if not isinstance(found, Tensor):
        raise ValueError(
            f'the network returns {_kind(answer)}, in which the logits are not known: say which '
            "entry they are with output='NAME' (or a position, or a function that takes them out)")
    if found.ndim not in (2, 4) or not found.is_floating_point():
        raise ValueError(
            f'the network returns logits of the shape {tuple(found.shape)} ({_type(found)}): (N, '
            'classes) of a classifier or (N, classes, height, width) of a segmenter are needed, '
            'take them out with output=')
    if found.shape[1] < 2:
        raise ValueError(
            f'the network returns logits of the shape {tuple(found.shape)}, one class: with '
            'output=lambda y: torch.cat([-y, y], 1) / 2 a sigmoid output tells two apart')
    return found


def _kind(answer: Any) -> str:
    if isinstance(answer, Mapping):
        return f'a dict with {", ".join(map(str, answer)) or "nothing"}'
    if isinstance(answer, (list, tuple)):
        return f'a {type(answer).__name__} of {len(answer)}'
    return f'a {type(answer).__name__}'


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix('torch.')


@MODELS.register_module(force=True)
class Network(nn.Module):
    """A plain network in the place of a backbone: image batch (N, 3, H, W) to ``(logits,)``.

    Args:
        network (nn.Module): The network.
        output: See :func:`logits_of`.
    """

    def __init__(self, network: nn.Module, output: str | int | Callable | None = None):
        super().__init__()
        self.network = network
        self.output = output

    def forward(self, inputs: Tensor) -> tuple[Tensor]:
        return logits_of(self.network(inputs), self.output),


@MODELS.register_module(force=True)
class ExportedNetwork(nn.Module):
    """A network that was exported to a file, in the place of a backbone.

    Args:
        file (str): ``.onnx`` (run by onnxruntime), ``.torchscript`` or ``.pt2`` (torch.export).

    Raises:
        ImportError: If onnxruntime is missing.
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or takes no images of the size that it is given.
    """

    def __init__(self, file: str):
        super().__init__()
        path = Path(file)
        if not path.is_file():
            raise FileNotFoundError(f"there is no exported network at '{file}': write it with "
                                    'mmrobust export')
        # what the identity of results holds of it: the content, not the path
        self.content = '#' + hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
        self.name = path.name
        with reading(f"the exported network '{file}'", 'export it again'):
            self._run, self._sizes = _OPENERS[path.suffix](path)

    def forward(self, inputs: Tensor) -> tuple[Tensor]:
        """Images (N, 3, H, W) to ``(logits,)``.

        Raises:
            ValueError: If the file was exported for images of another size.
        """
        wanted = [(is_, fixed) for is_, fixed in zip(inputs.shape, self._sizes, strict=True)
                  if isinstance(fixed, int) and is_ != fixed]
        if wanted:
            raise ValueError(
                f"'{self.name}' was exported for inputs of {_shape(self._sizes)}, and is given "
                f'{_shape(inputs.shape)}: export it with a dynamic size, or let the pipeline '
                'give that one (and batch_size)')
        return logits_of(self._run(inputs)),


def _shape(sizes: Any) -> str:
    return ' x '.join(str(size) if isinstance(size, int) else 'any' for size in sizes)


def _open_onnx(path: Path) -> tuple[Callable, list]:
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise ImportError("an ONNX file needs onnxruntime: pip install 'mmrobust[export]'"
                          ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options,
                                           providers=['CPUExecutionProvider'])
    given = session.get_inputs()
    if len(given) != 1 or len(given[0].shape) != 4:
        raise ValueError(f"'{path}' takes {len(given)} inputs, the first of shape "
                         f'{given[0].shape}: one batch of images (N, 3, H, W) is needed')

    def run(inputs: Tensor) -> Tensor:
        answer = session.run(None, {given[0].name: np.ascontiguousarray(inputs.cpu().numpy())})
        return torch.from_numpy(answer[0]).to(inputs.device)

    return run, given[0].shape


def _open_torchscript(path: Path) -> tuple[Callable, list]:
    facts = {FACTS: ''}
    network = torch.jit.load(str(path), 'cpu', _extra_files=facts).eval()
    # files of others say nothing
    sizes = json.loads(facts[FACTS])['sizes'] if facts[FACTS] else [None] * 4
    return network.__call__, sizes


def _open_program(path: Path) -> tuple[Callable, list]:
    program = torch.export.load(str(path))
    inputs = next(iter(node.meta['val'].shape for node in program.graph.nodes
                       if node.op == 'placeholder' and node.name in
                       program.graph_signature.user_inputs))
    return program.module().__call__, [size if isinstance(size, int) else None for size in inputs]


_OPENERS = {'.onnx': _open_onnx, '.torchscript': _open_torchscript, '.pt2': _open_program}
