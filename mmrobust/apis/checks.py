"""Whether a config can be worked with: what Python or MMEngine would notice late, or never."""
import inspect
import math
import os
from collections.abc import Iterator, Sequence
from numbers import Integral, Real
from typing import Any

from mmengine.config import Config
from mmengine.registry import OPTIMIZERS
from mmengine.runner import Runner

from mmrobust.utils.mistakes import nearest

# keys at the top of a config that some part reads although no config of ours sets them
TOP_LEVEL = ('runner_type', 'crop_size', 'sync_bn', 'tta_model', 'tta_pipeline', 'fp16',
             'model_wrapper_cfg', 'find_unused_parameters', 'custom_imports', 'auto_scale_lr',
             'classes', 'env_cfg')
# parts that may be left out, but are dicts
OPTIONAL = ('default_hooks', 'randomness', 'env_cfg', 'val_cfg', 'val_dataloader', 'val_evaluator')
# smallest whole number that makes sense
LOADER = dict(batch_size=1, num_workers=0)
LENGTHS = dict(max_iters=1, max_epochs=1, val_interval=1, val_begin=0)
OPTIMIZER = ('lr', 'weight_decay', 'momentum', 'eps')


def walk(node: Any, path: str = '') -> Iterator[tuple[str, dict]]:
    """Every dict within a config, with its dotted path."""
    if isinstance(node, dict):
        yield path, node
        items = node.items()
    elif isinstance(node, (list, tuple)):
        items = enumerate(node)
    else:
        return
    for key, value in items:
        yield from walk(value, f'{path}.{key}' if path else str(key))


def require_parts(cfg: Config, *names: str) -> None:
    """Make sure that parts of a config are there, and are dicts.

    Args:
        cfg (Config): Full config.
        *names (str): Keys; 'a|b' asks for one of both.

    Raises:
        ValueError: If one is missing or is no dict.
    """
    for name in names:
        found = [key for key in name.split('|') if cfg.get(key) is not None]
        if not found:
            raise ValueError(f"the config '{cfg.filename}' has no {name.replace('|', ' or ')}: "
                             'add it, or inherit a config that has it')
        for key in found:
            kinds = (dict, list, tuple) if key.endswith('evaluator') else dict
            if not isinstance(cfg[key], kinds) or key.endswith('evaluator') and not cfg[key]:
                raise ValueError(f"the config '{cfg.filename}' has {key}={cfg[key]!r}: it must be "
                                 'a dict')


def check_optional_parts(cfg: Config) -> None:
    """Make sure that parts of a config that may be left out are dicts, and so are its hooks.

    Raises:
        ValueError: If one is not.
    """
    require_parts(cfg, *(name for name in OPTIONAL if cfg.get(name) is not None))
    for name, hook in (cfg.get('default_hooks') or {}).items():
        if isinstance(hook, (str, int, float, list, tuple)):
            raise ValueError(f"the config '{cfg.filename}' has default_hooks.{name}={hook!r}: it "
                             'must be a dict with a type, or None')


def check_overrides(cfg: Config, keys: Sequence[str]) -> None:
    """Refuse overrides at the top of a config that nothing would read.

    Raises:
        ValueError: If there is one.
    """
    known = {*cfg.keys(), *inspect.signature(Runner).parameters, *TOP_LEVEL}
    for key in keys:
        top = key.split('.')[0]
        if top not in known:
            raise ValueError(f"--cfg-options {key}: the config has no '{top}'"
                             f'{nearest(top, known)}: correct the name')


def check_values(cfg: Config, phases: Sequence[str]) -> None:
    """Refuse values of a config with which no work can be done.

    Args:
        cfg (Config): Full config.
        phases (Sequence[str]): What is about to run: 'train', 'val', 'test'.

    Raises:
        ValueError: If there is one.
    """
    for path, node in walk(cfg._cfg_dict):
        for key, value in node.items():
            if isinstance(value, float) and math.isnan(value):
                place = f'{path}.{key}' if path else key
                raise ValueError(f'{place}={value} is not a number: correct it')
    for phase in phases:
        loader, loop = cfg.get(f'{phase}_dataloader'), cfg.get(f'{phase}_cfg')
        if isinstance(loader, dict):
            if not isinstance(loader.get('dataset'), dict):
                raise ValueError(f"{phase}_dataloader.dataset={loader.get('dataset')!r}: it must "
                                 'be a dict with a type')
            sampler = loader.get('sampler', {})
            if not isinstance(sampler, dict) and (sampler is not None
                                                  or not loader.get('batch_sampler')):
                raise ValueError(f'{phase}_dataloader.sampler={sampler!r}: it must be a dict with '
                                 'a type')
            _check_whole(loader, f'{phase}_dataloader', LOADER)
            if not loader.get('num_workers') and loader.get('persistent_workers'):
                raise ValueError(f'{phase}_dataloader.persistent_workers=True needs workers: set '
                                 f'it to False where num_workers=0')
        if isinstance(loop, dict):
            _check_whole(loop, f'{phase}_cfg', LENGTHS)
        metrics = cfg.get(f'{phase}_evaluator')
        for metric in metrics if isinstance(metrics, (list, tuple)) else [metrics]:
            topk = metric.get('topk') if isinstance(metric, dict) else None
            for count in topk if isinstance(topk, (list, tuple)) else [topk]:
                _check_whole(dict(topk=count), f'{phase}_evaluator', dict(topk=1))
    if 'train' in phases:
        _check_optimizer(cfg)


def _check_whole(node: dict, path: str, smallest: dict[str, int]) -> None:
    for key, least in smallest.items():
        value = node.get(key)
        if value is None:
            continue
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            raise ValueError(f'{path}.{key}={value!r}: it must be a whole number of at least '
                             f'{least}')


def check_environment() -> None:
    """Refuse what neither a launcher nor a parent of ours can have set.

    Raises:
        ValueError: If there is a variable of another kind than it must be.
    """
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'LOCAL_WORLD_SIZE', 'MASTER_PORT',
                 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK', 'MMROBUST_STOP_STATUS'):
        value = os.environ.get(name)
        if value and not value.isdecimal():
            raise ValueError(f"the environment has {name}='{value}': it must be a whole number, "
                             f'unset it with `unset {name}`')


def _check_optimizer(cfg: Config) -> None:
    for path, node in walk(cfg.get('optim_wrapper'), 'optim_wrapper'):
        if path.rpartition('.')[2] != 'optimizer':
            continue
        name = node.get('type')
        if isinstance(name, str) and OPTIMIZERS.get(name) is None:
            raise ValueError(f"{path}.type='{name}': there is no such optimizer"
                             f'{nearest(name, OPTIMIZERS.module_dict)}')
        for key in OPTIMIZER:
            value = node.get(key)
            if value is not None and (not isinstance(value, Real) or isinstance(value, bool)
                                      or not 0 <= value < math.inf):
                raise ValueError(f'{path}.{key}={value!r}: it must be a number of at least 0')
