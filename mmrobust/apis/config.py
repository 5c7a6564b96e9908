"""Reading a config, and making it fit the machine that it is to run on."""
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.config import utils as config_utils
from mmengine.registry import init_default_scope

from mmrobust.datasets.completeness import missing_data
from mmrobust.utils.files import is_absent
from mmrobust.utils.hosts import check_environment, require
from mmrobust.utils.mistakes import reading
from mmrobust.utils.shipped import find_config

from .checks import check_overrides, require_parts, walk

# scope of a config -> import name of the library that runs it
SCOPES = ('mmseg', 'mmpretrain', 'mmdet')
SUFFIXES = ('.py', '.json', '.yaml', '.yml')


def load_config(path: str, options: dict | None = None) -> Config:
    """Read a config of any OpenMMLab scope.

    Args:
        path (str): Config file, the name of one of ours, or ``package::name``.
            ``_base_ = 'mmseg::...'`` works in it with either family.
        options (dict, optional): Overrides, as from ``--cfg-options``.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If its host library is missing, or both families are installed.
        ValueError: If it cannot be run, or overrides do not fit it.
    """
    check_environment()
    path = find_config(path)
    if not Path(path).is_file():
        kind = 'a folder' if Path(path).is_dir() else 'no regular file'
        raise FileNotFoundError(f"'{path}' is {kind}, not a config: see configs/ for ours")
    if Path(path).suffix not in SUFFIXES:
        raise ValueError(f"'{path}' is no config: its name must end with {', '.join(SUFFIXES)}")
    for name in SCOPES:
        # the maintained family still looks for the distributions of the original one
        config_utils.MODULE2PACKAGE[name] = name
    # a config is a program: whatever it raises is a mistake in it
    with reading(f"the config '{path}'"):
        cfg = Config.fromfile(path)
    if options:
        check_overrides(cfg, list(options))
        with reading(f'--cfg-options {" ".join(f"{k}={v}" for k, v in options.items())}'):
            cfg.merge_from_dict(options)
    scope = cfg.get('default_scope', 'mmengine')
    if not isinstance(scope, str):
        raise ValueError(f"the config '{path}' has default_scope={scope!r}: name a library, such "
                         "as 'mmseg'")
    if scope in SCOPES:
        require(scope)
    with reading(f"the default_scope of the config '{path}'"):
        init_default_scope(scope)
    return cfg


def use_amp(cfg: Config, on_cpu: bool) -> None:
    """Train in mixed precision: float16 or bfloat16 with scaling on a GPU, bfloat16 on the CPU."""
    require_parts(cfg, 'optim_wrapper')
    wrapper = cfg.optim_wrapper
    if wrapper.get('type', 'OptimWrapper') not in (
            'OptimWrapper', 'AmpOptimWrapper', 'CPUAmpOptimWrapper'):
        raise ValueError(f"--amp cannot change optim_wrapper type '{wrapper.type}': set its "
                         'mixed precision in the config')
    wrapper.type = 'CPUAmpOptimWrapper' if on_cpu else 'AmpOptimWrapper'
    if on_cpu:
        wrapper.pop('loss_scale', None)
        wrapper.pop('dtype', None)
    else:
        wrapper.setdefault('loss_scale', 'dynamic')


def adapt_to_cpu(cfg: Config) -> None:
    """Replace what only works on a GPU: synchronised normalisation, scaled mixed precision."""
    for _, node in walk(cfg.model):
        for key, value in node.items():
            if isinstance(value, dict) and value.get('type') in ('SyncBN', 'MMSyncBN'):
                node[key] = {**value, 'type': 'BN'}
    cfg.sync_bn = None
    wrapper = cfg.get('optim_wrapper')
    if isinstance(wrapper, dict) and wrapper.get('type') == 'AmpOptimWrapper':
        use_amp(cfg, on_cpu=True)
    if cfg.get('launcher', 'none') != 'none':
        cfg.model_wrapper_cfg = dict(
            type='MMDistributedDataParallel', device_ids=None,
            find_unused_parameters=cfg.get('find_unused_parameters', False))


def missing_inputs(cfg: Config, phases: Sequence[str]) -> Iterator[str]:
    """One sentence for each file or folder that a config names and that is not there.

    Args:
        cfg (Config): Full config.
        phases (Sequence[str]): Which data are about to be read: 'train', 'val', 'test'.
    """
    if 'train' in phases and not cfg.get('resume') and not cfg.get('load_from'):
        for path, node in walk(cfg.model, 'model'):
            checkpoint = node.get('checkpoint')
            if node.get('type') == 'Pretrained' and is_absent(checkpoint):
                yield (f"{path} starts from '{checkpoint}', which is not there: convert the "
                       "authors' weights to it with tools/converters/convert_official.py, or "
                       f'start from scratch with --cfg-options {path}=None')
    if not isinstance(cfg.get('load_from') or '', str):
        yield f'load_from={cfg.load_from!r}: it must name a .pth file'
    elif is_absent(cfg.get('load_from')):
        yield (f"the checkpoint '{cfg.load_from}' (load_from, or --resume) is not there: name a "
               '.pth file')
    for phase in phases:
        for path, node in walk(cfg.get(f'{phase}_dataloader') or {}, f'{phase}_dataloader'):
            root = node.get('data_root')
            if isinstance(root, str) and is_absent(root):
                yield (f"{path}.data_root='{root}' is not there: link the data set there, or "
                       f'name its folder with --cfg-options {path}.data_root=...')
            elif 'data_prefix' in node:
                yield from missing_data(node)


def scale_lr(cfg: Config) -> None:
    """Scale the learning rate linearly from the batch size that the recipe was made for.

    Raises:
        ValueError: If the config does not say for which batch size that is.
    """
    scaling = cfg.get('auto_scale_lr') or {}
    if not isinstance(scaling, dict) or 'base_batch_size' not in scaling:
        raise ValueError('--auto-scale-lr: the config lacks auto_scale_lr=dict('
                         'base_batch_size=...), the batch size its learning rate is for')
    size = scaling['base_batch_size']
    if not isinstance(size, int) or size < 1:
        raise ValueError(f'--auto-scale-lr: auto_scale_lr.base_batch_size={size!r}: it must be a '
                         'whole number of at least 1')
    cfg.auto_scale_lr = {**scaling, 'enable': True}
