"""Configs and tools that come with mmrobust, in a checkout and in an installed package."""
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from .mistakes import nearest

PACKAGE = Path(__file__).resolve().parents[1]
SCOPE = 'mmrobust'


@cache
def shipped(name: str) -> Path:
    """A folder or file that comes with mmrobust: ``'configs'``, ``'tools'``, ``'model-index.yml'``.

    Raises:
        FileNotFoundError: If the installation is incomplete.
    """
    # beside the package in a checkout; within it where it was installed, as OpenMMLab's own do
    in_checkout = (PACKAGE.parent / 'setup.py').is_file()
    folder = PACKAGE.parent if in_checkout else PACKAGE / '.mim'
    if (folder / name).exists():
        return folder / name
    raise FileNotFoundError(f"'{name}' of mmrobust is not in {folder}: install mmrobust "
                            'again')


def config_names() -> list[str]:
    """The names of our configs."""
    return sorted(path.stem for path in shipped('configs').glob('*.py'))


def published() -> Iterator[dict]:
    """The entries of the published models that our configs describe, and ``File``, their metafile.

    They are what ``mim search`` and ``mim download`` read.
    """
    import yaml

    for file in yaml.safe_load(shipped('model-index.yml').read_text('utf-8'))['Import']:
        for entry in yaml.safe_load(shipped(file).read_text('utf-8'))['Models']:
            yield {**entry, 'File': file}


def find_config(config: str) -> str:
    """The file that a path, a name of one of our configs, or ``package::name`` stands for.

    A file that exists goes first, so a config of the user's own may have the name of one of ours.

    Args:
        config (str): ``'configs/fan_b.py'``, ``'fan_b'``, ``'fan_b.py'``, ``'mmrobust::fan_b'`` or
            ``'mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py'``.

    Raises:
        FileNotFoundError: If there is none; it names the nearest ones.
    """
    if Path(config).exists():
        return config
    package, separator, name = config.rpartition('::')
    if separator and package != SCOPE:
        return _of_package(package, name)
    # a path that is mistyped is no name, whatever its last part is
    if separator or Path(config).name == config:
        found = shipped('configs') / (name if name.endswith('.py') else f'{name}.py')
        if found.is_file():
            return str(found)
    similar = nearest(Path(name).stem, config_names())
    raise FileNotFoundError(f"there is no config '{config}'{similar}: `mmrobust list configs` "
                            'shows ours (in configs/)')


def _of_package(package: str, name: str) -> str:
    """A config of a host library, which lies in its ``.mim`` or, in a checkout, beside it."""
    from importlib.util import find_spec

    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"there is no config '{package}::{name}': {package} is not "
                                'installed')
    folder = Path(spec.submodule_search_locations[0])
    name = name if name.endswith('.py') else f'{name}.py'
    for root in (folder / '.mim', folder.parent):
        if (root / 'configs' / name).is_file():
            return str(root / 'configs' / name)
    names = {path.stem: path for path in (folder / '.mim' / 'configs').rglob('*.py')}
    raise FileNotFoundError(f"there is no config '{package}::{name}'"
                            f'{nearest(Path(name).stem, names)}: write {package}::FOLDER/NAME.py')


def find_our_bases() -> None:
    """Let ``_base_ = 'mmrobust::NAME.py'`` and ``get_config('mmrobust::NAME.py')`` work.

    MMEngine has a list of the packages whose configs it finds, and wants each in a folder. It
    follows bases that lead in a circle until Python's stack is full, which takes minutes.
    """
    try:
        from mmengine.config import Config
    except ModuleNotFoundError:
        return
    from mmengine.config import utils as config_utils
    if SCOPE in config_utils.MODULE2PACKAGE:
        return
    config_utils.MODULE2PACKAGE[SCOPE] = SCOPE
    find_base, split = Config._get_cfg_path, config_utils._get_package_and_cfg_path
    find_entry = config_utils._get_cfg_metainfo

    def base_path(config: str, filename: str) -> tuple[str, str | None]:
        # no scope: our configs name the host's parts
        found = (find_config(config), None) if _is_ours(config) else find_base(config, filename)
        _refuse_circle(found[0], filename)
        return found

    def package_and_path(config: str) -> tuple[str, str]:
        return tuple(config.split('::')) if _is_ours(config) else split(config)

    def entry(package_path: str, config: str) -> dict:
        # of an editable installation the folder may not be where MMEngine takes it to be
        return _entry(config) if Path(package_path).name == SCOPE else find_entry(
            package_path, config)

    Config._get_cfg_path = staticmethod(base_path)
    for module in filter(None, (config_utils, sys.modules.get('mmengine.hub.hub'))):
        module._get_package_and_cfg_path = package_and_path
        module._get_cfg_metainfo = entry


def _entry(name: str) -> dict:
    """What the hub wants to know of a config of ours."""
    path = find_config(f'{SCOPE}::{name}')
    described = (entry for entry in published() if Path(entry['Config']).name == Path(path).name)
    return {**next(described, {}), 'Config': path}


def _refuse_circle(path: str, filename: str) -> None:
    """Raise if the base of a config is one of the files that are being read to get there."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == '_file2dict':
            reader = frame.f_locals.get('filename')
            if reader is not None and os.path.realpath(reader) == os.path.realpath(path):
                raise ValueError(f"'{filename}' has the _base_ '{path}', which is based on it in "
                                 'turn: let one of them not inherit the other')
        frame = frame.f_back


def _is_ours(config: str) -> bool:
    return config.startswith(f'{SCOPE}::')
