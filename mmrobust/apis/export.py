"""Trained models as files that run without their code: TorchScript, torch.export and ONNX."""
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from mmengine.config import Config
from torch import Tensor, nn

from mmrobust.analysis.subject import Subject
from mmrobust.checkpoints import find_checkpoint
from mmrobust.models.image_range import swaps_channels
from mmrobust.models.network import EXPORTED, FACTS, ExportedNetwork, logits_of
from mmrobust.utils.files import write_atomically
from mmrobust.utils.hosts import release
from mmrobust.utils.mistakes import reading

from .benchmark import use_exported
from .checks import require_parts

OPSET = 18  # the oldest that torch's exporter writes without a conversion
TOLERANCE = 1e-4  # of the logits, or of the largest of them where that is above 1
OLDEST_TORCH = (2, 6)  # whose torch.export takes sizes that are not known
SMALLEST = 32  # pixels that sizes are a multiple of

# which of (batch, height, width) stay free, tried one after the other
FREEDOMS = ((True, True, True), (False, True, True), (True, False, False), (False, False, False))


class Exported(NamedTuple):
    """One file.

    Attributes:
        path (Path): Where it is.
        sizes (tuple): Shape of its input: a number where it is fixed, None where it is free.
        difference (float): Largest difference of its logits to the model's.
    """
    path: Path
    sizes: tuple[int | None, ...]
    difference: float

    def __str__(self) -> str:
        sizes = ' x '.join('any' if size is None else str(size) for size in self.sizes)
        return f'{self.path}: inputs {sizes}, logits to {self.difference:.1e}'


class LogitsModel(nn.Module):
    """A model of MMSegmentation or MMPretrain as a function of images.

    Args:
        model (nn.Module): An ``EncoderDecoder`` or an ``ImageClassifier``.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.align_corners = getattr(getattr(model, 'decode_head', None), 'align_corners', False)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) to logits (N, classes) or (N, classes, H, W)."""
        logits = logits_of(self.model(images, None, mode='tensor'))
        if logits.ndim == 4:
            logits = F.interpolate(logits, images.shape[2:], mode='bilinear',
                                   align_corners=self.align_corners)
        return logits


def export(cfg: Config, checkpoint: str, files: Sequence[str | Path],
           shape: tuple[int, int] | None = None, trust: bool = False) -> list[Exported]:
    """Write a trained model as files, and compare what they compute with the model.

    The image is what the config's data preprocessor makes of it; the file says how, under
    ``mmrobust`` of its metadata. Batch, height and width stay free as far as the model allows it.

    Args:
        cfg (Config): Full config of a segmenter or a classifier.
        checkpoint (str): Its weights, or a work dir.
        files (Sequence[str | Path]): ``.onnx``, ``.torchscript``, ``.pt2``: the suffix says what.
        shape (tuple[int, int], optional): Height and width of the example, and of the images
            where the model allows no other. Defaults to the crop of a segmenter, else 224 x 224.
        trust (bool): Whether the checkpoint may run code of its own when loaded.

    Returns:
        list[Exported]: One for each file.

    Raises:
        ImportError: If a package for one of the formats is missing.
        ValueError: If the model cannot be exported, or the file computes something else.
    """
    paths = [Path(file) for file in files]
    for path in paths:
        if path.suffix not in WRITERS:
            raise ValueError(f"'{path}': its name must end with {', '.join(EXPORTED)}, which says "
                             'what is written')
        _check_packages(path.suffix)
    require_parts(cfg, 'model')
    # the same limits as for running the file in the place of the model
    use_exported(Config(dict(model=cfg.model)), str(paths[0]))
    height, width = shape or _default_shape(cfg)
    if min(height, width) < SMALLEST:
        raise ValueError(f'--shape {height} {width}: give at least {SMALLEST} {SMALLEST}')
    subject = Subject.load(cfg, find_checkpoint(checkpoint), 'exported', trust=trust)
    network = LogitsModel(subject.model).eval().requires_grad_(False)
    facts = _facts(subject.model)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, height, width, generator=generator)
    with reading(f"the model of the config '{cfg.filename}' on images of {height} x {width}",
                 'give the size that it was trained for with --shape HEIGHT WIDTH', running=True):
        expected = _run(network, images)
    if expected.shape[1] < 2:
        raise ValueError(f"the model of the config '{cfg.filename}' has one output per pixel or "
                         'image: only models with a logit for each class can be exported')
    return [_write_checked(path, network, images, facts) for path in paths]


def quantise(source: str | Path, target: str | Path) -> Path:
    """Int8 weights for the linear layers of an ONNX file; activations are quantised as they come.

    Convolutions stay as they are, as in ``torch.ao.quantization.quantize_dynamic``.

    Args:
        source, target (str | Path): ``.onnx`` files.

    Raises:
        ImportError: If onnx or onnxruntime is missing.
        ValueError: If there is nothing to quantise.
    """
    _check_packages('.onnx')
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    def write(temporary: str) -> None:
        with _quiet():
            quantize_dynamic(str(source), temporary, op_types_to_quantize=['MatMul', 'Gemm'],
                             weight_type=QuantType.QInt8)
        kinds = {node.op_type for node in onnx.load(temporary).graph.node}
        if 'MatMulInteger' not in kinds:
            raise ValueError(f"'{source}' has no linear layers: there is nothing to quantise")

    write_atomically(target, write)
    return Path(target)


def _check_packages(suffix: str) -> None:
    if suffix != '.torchscript' and release(torch.__version__) < OLDEST_TORCH:
        raise ImportError(f'{EXPORTED[suffix]} files need torch 2.6 or newer, {torch.__version__} '
                          'is installed: write TorchScript (.torchscript), or update torch')
    if suffix == '.onnx':
        try:
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401
        except ModuleNotFoundError as error:
            raise ImportError(f"ONNX files need {error.name}: pip install 'mmrobust[export]'"
                              ) from None


def _default_shape(cfg: Config) -> tuple[int, int]:
    size = (cfg.get('crop_size') or 512) if 'decode_head' in cfg.model else 224
    return (size, size) if isinstance(size, int) else tuple(size)


def _facts(model: nn.Module) -> dict[str, Any]:
    """What somebody who has only the file must know."""
    preprocessor = model.data_preprocessor

    def numbers(name: str) -> list[float] | None:
        values = getattr(preprocessor, name, None)
        return None if values is None else values.flatten().tolist()

    classes = (getattr(model, 'dataset_meta', None) or {}).get('classes')
    return dict(mean=numbers('mean'), std=numbers('std'),
                channels='RGB' if swaps_channels(preprocessor) else 'as the pipeline loads them',
                classes=classes)


def _write_checked(path: Path, network: nn.Module, images: Tensor, facts: dict) -> Exported:
    """With as much freedom as gives the same numbers at other sizes."""
    failures = []
    for free in FREEDOMS:
        sizes = tuple(None if is_free else size for is_free, size in zip(
            (free[0], False, *free[1:]), images.shape, strict=True))
        trials = [images]
        if any(free):
            # neither a multiple of the first nor of the same proportions
            other = [size if fixed is not None else size + extra for size, fixed, extra in
                     zip(images.shape, sizes, (1, 0, SMALLEST, 3 * SMALLEST), strict=True)]
            trials.append(torch.randn(other, generator=torch.Generator().manual_seed(1)))
        try:
            wanted = [_run(network, trial) for trial in trials]
        except Exception as error:  # the model itself takes no other size
            failures.append(str(error))
            continue
        found: list[float] = []

        def write(temporary: str, sizes=sizes, trials=trials, wanted=wanted, found=found) -> None:
            with _quiet():
                WRITERS[path.suffix](network, images, sizes, facts, temporary)
                written = ExportedNetwork(temporary)
                found += [_difference(written(trial)[0], logits)
                          for trial, logits in zip(trials, wanted, strict=True)]
            if not max(found) <= TOLERANCE:
                raise ValueError(f'its logits differ by {max(found):.1e}')

        try:
            write_atomically(path, write)
        except OSError:
            raise
        except Exception as error:  # whatever an exporter raises where it needs a fixed size
            failures.append(f'{type(error).__name__}: {error}')
            continue
        return Exported(path, sizes, max(found))
    last = failures[-1].strip().splitlines()[0]
    raise ValueError(f"the model cannot be written as {EXPORTED[path.suffix]} to '{path}' ({last}):"
                     ' try another format')


def _difference(logits: Tensor, wanted: Tensor) -> float:
    if logits.shape != wanted.shape:
        return float('inf')
    return ((logits - wanted).abs().max() / wanted.abs().max().clamp(min=1)).item()


@torch.inference_mode()
def _run(network: nn.Module, images: Tensor) -> Tensor:
    return network(images).clone()


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporters warn of every size that Python code looks at; other sizes are tried here."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(level)


def _write_torchscript(network: nn.Module, images: Tensor, sizes: tuple, facts: dict, path: str
                       ) -> None:
    with torch.no_grad():
        traced = torch.jit.trace(network, images, check_trace=False)
    # a trace does not know what it was made for
    torch.jit.save(traced, path, _extra_files={FACTS: json.dumps({**facts, 'sizes': sizes})})


def _program(network: nn.Module, images: Tensor, sizes: tuple) -> Any:
    free = {axis: torch.export.Dim.DYNAMIC for axis, size in enumerate(sizes) if size is None}
    with torch.no_grad():
        return torch.export.export(network, (images,), dynamic_shapes=(free,), strict=False)


def _write_program(network: nn.Module, images: Tensor, sizes: tuple, facts: dict, path: str
                   ) -> None:
    torch.export.save(_program(network, images, sizes), path,
                      extra_files={FACTS: json.dumps({**facts, 'sizes': sizes})})


def _write_onnx(network: nn.Module, images: Tensor, sizes: tuple, facts: dict, path: str) -> None:
    program = torch.onnx.export(
        _program(network, images, sizes), (images,), dynamo=True, opset_version=OPSET,
        input_names=['images'], output_names=['logits'], external_data=False, verbose=False)
    program.model.metadata_props[FACTS] = json.dumps({**facts, 'sizes': sizes})
    program.save(path)


WRITERS: dict[str, Callable[..., None]] = {
    '.onnx': _write_onnx, '.torchscript': _write_torchscript, '.pt2': _write_program}
