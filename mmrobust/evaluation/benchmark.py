"""Turning any MMEngine config into a benchmark run."""
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmengine.config import Config

from mmrobust.utils.mistakes import reading

from .protocols import get_protocol

# arguments of CorruptionTestLoop that are none of the protocol's
LOOP_OPTIONS = ('model_name', 'metric', 'out_dir', 'show_dir', 'show_interval',
                'predictions', 'measures', 'image_cache', 'subset', 'subset_seed', 'fp16')


def apply_benchmark(cfg: Config, name: str, corruptions: str | Iterable[str] | None = None,
                    severities: int | Sequence[int] | None = None,
                    corrupted_root: str | None = None, checkpoint: str | None = None,
                    **options: Any) -> None:
    """Let ``Runner.from_cfg(cfg).test()`` run a benchmark; changes the config in place.

    It does what ``test_cfg = dict(type='CorruptionTestLoop', protocol=name)`` does in a config.

    Args:
        cfg (Config): Config of any MM model with test (or else validation) data and metrics.
        name (str): Name of the benchmark.
        corruptions, severities: Run only a part, see :func:`get_protocol`.
        corrupted_root (str, optional): Folder of ready-made images.
        checkpoint (str, optional): The weights to test.
        **options: Other arguments of ``CorruptionTestLoop`` and of the protocol.

    Raises:
        ValueError: If a name, a severity or an option is unknown, or the config has no test.
    """
    if corrupted_root is not None:
        options['corrupted_root'] = corrupted_root
    with reading(f"the benchmark '{name}' with {options or 'its own settings'}",
                 'correct --benchmark or --benchmark-options'):
        get_protocol(name, corruptions, severities,
                     **{key: value for key, value in options.items() if key not in LOOP_OPTIONS})
    for part in ('dataloader', 'evaluator'):
        if cfg.get(f'test_{part}') is None:
            if cfg.get(f'val_{part}') is None:
                raise ValueError(f'the config has neither test_{part} nor val_{part}: add one, '
                                 f'the benchmark runs on its data and metrics.')
            cfg[f'test_{part}'] = cfg[f'val_{part}']
    selection = dict(corruptions=corruptions, severities=severities)
    cfg.test_cfg = dict(type='CorruptionTestLoop', protocol=name, **options,
                        **{key: value for key, value in selection.items() if value is not None})
    if checkpoint is not None:
        cfg.load_from = checkpoint


def brings_its_data(test_cfg: Mapping[str, Any]) -> bool:
    """Whether a test loop is a benchmark that reads nothing of the config's own test data.

    ImageNet-P is one: whoever has only its videos can run it.

    Args:
        test_cfg (Mapping): Config of the loop.
    """
    if test_cfg.get('type') != 'CorruptionTestLoop':
        return False
    protocol = get_protocol(**{
        'name' if key == 'protocol' else key: value for key, value in test_cfg.items()
        if key not in ('type', *LOOP_OPTIONS)})
    return all(cell.dataset is not None for cell in protocol.cells)
