"""The OpenMMLab libraries that mmrobust plugs into, and whether they are fit to be used."""
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution

# import name -> (distribution of the maintained continuation, of the original)
HOSTS = {
    'mmengine': ('onedl-mmengine', 'mmengine'),
    'mmcv': ('onedl-mmcv', 'mmcv'),
    'mmseg': ('onedl-mmsegmentation', 'mmsegmentation'),
    'mmpretrain': ('onedl-mmpretrain', 'mmpretrain'),
    'mmdet': ('onedl-mmdetection', 'mmdet'),
}


def _installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


@cache
def check_families() -> None:
    """Raise ImportError when both OpenMMLab families lie in one environment."""
    doubled = [pair for pair in HOSTS.values() if all(map(_installed, pair))]
    if doubled:
        new, old = zip(*doubled, strict=True)
        raise ImportError(
            f'{", ".join(old)} and {", ".join(new)} are both installed and overwrite each '
            f"other's files: uninstall one family, then reinstall the other, e.g. "
            f'`pip uninstall {" ".join(old + new)}` and `pip install "mmrobust[mm]"`.')


def require(host: str) -> None:
    """Make sure that a host library can be imported before a part of ours that needs it is.

    Args:
        host (str): Import name, such as ``'mmseg'``.

    Raises:
        ImportError: If it is missing, or if both families are installed.
    """
    check_families()
    try:
        import_module(host)
    except ModuleNotFoundError as error:
        if error.name != host:
            raise
        raise ImportError(
            f'this part of mmrobust needs {host}, which is not installed: '
            f'`pip install "mmrobust[mm]"` brings the maintained family, or install '
            f'`{HOSTS[host][0]}` beside the OpenMMLab packages you have.') from None
