"""The libraries that mmrobust stands on, and whether they are fit to be used together."""
import re
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

# import name -> (distribution of the maintained continuation, of the original)
HOSTS = {
    'mmengine': ('onedl-mmengine', 'mmengine'),
    'mmcv': ('onedl-mmcv', 'mmcv'),
    'mmseg': ('onedl-mmsegmentation', 'mmsegmentation'),
    'mmpretrain': ('onedl-mmpretrain', 'mmpretrain'),
    'mmdet': ('onedl-mmdetection', 'mmdet'),
}
OPENCV = ('opencv-python', 'opencv-python-headless', 'opencv-contrib-python',
          'opencv-contrib-python-headless')
OLDEST = {'torch': (2, 1), 'numpy': (1, 26), 'opencv': (4, 8)}
FIRST_TORCH_FOR_NUMPY_2 = (2, 3)
MAINTAINED = '`pip install "mmrobust[mm]"` brings the maintained family'


def installed(*names: str) -> str | None:
    """The version of the first of these distributions that is installed."""
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def there(module: str) -> bool:
    """Whether a module can be imported; only the packages around it are."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def release(text: str) -> tuple[int, ...]:
    """The numbers of a version: ``(2, 1)`` of ``'2.1.2+cu121'``."""
    return tuple(map(int, re.findall(r'\d+', text)[:2]))


@cache
def check_environment() -> None:
    """Make sure that what is installed can work together, before anything heavy is imported.

    Raises:
        ImportError: If something is missing or too old, or does not go with something else.
    """
    for problem in problems():
        raise ImportError(problem)


def problems() -> list[str]:
    """What keeps mmrobust from working here, a sentence each."""
    found = []
    if installed('torch') is None and not there('torch'):
        found.append('mmrobust needs torch 2.1 or newer, which is not installed: `pip install '
                     'torch torchvision`')
    numpy, torch = installed('numpy'), installed('torch')
    for name, present, remedy in (
            ('torch', torch, 'install a newer one, with the torchvision and mmcv that go with it'),
            ('numpy', numpy, '`pip install "numpy>=1.26,<2"`'),
            ('opencv', installed(*OPENCV), '`pip install "opencv-python>=4.8,<5"`')):
        if present and release(present) < OLDEST[name]:
            least = '.'.join(map(str, OLDEST[name]))
            found.append(f'mmrobust needs {name} {least} or newer, {present} is installed: '
                         f'{remedy}')
    if numpy and torch and release(numpy) >= (2, 0) and release(torch) < FIRST_TORCH_FOR_NUMPY_2:
        found.append(f'torch {torch} cannot use NumPy {numpy}: `pip install "numpy>=1.26,<2" '
                     '"opencv-python<4.12"`, or install torch 2.3 or newer')
    if not there('cv2'):
        found.append('mmrobust needs OpenCV, which is not installed: `pip install opencv-python`, '
                     'or opencv-python-headless')
    if installed(*HOSTS['mmengine']) is None and not there('mmengine'):
        found.append(f'mmrobust plugs into OpenMMLab, but mmengine is not installed: {MAINTAINED}, '
                     'or `pip install mmengine` the original')
    return [*found, *_families()]


def _families() -> list[str]:
    doubled = [pair for pair in HOSTS.values() if all(map(installed, pair))]
    if not doubled:
        return []
    new, old = zip(*doubled, strict=True)
    return [f'{", ".join(old)} and {", ".join(new)} are both installed and overwrite each '
            f"other's files: uninstall one family, then reinstall the other, e.g. "
            f'`pip uninstall {" ".join(old + new)}` and `pip install "mmrobust[mm]"`.']


def family() -> str | None:
    """The OpenMMLab family that is here: 'maintained', 'original', 'both' or None."""
    new, old = (any(installed(pair[side]) for pair in HOSTS.values()) for side in (0, 1))
    return 'both' if new and old else 'maintained' if new else 'original' if old else None


def require(host: str) -> None:
    """Make sure that a host library can be imported before a part of ours that needs it is.

    Args:
        host (str): Import name, such as ``'mmseg'``.

    Raises:
        ImportError: If it is missing, or does not go with what else is installed.
    """
    check_environment()
    if not there(host):
        remedy = f'install `{_of_family(host)}` beside the OpenMMLab packages you have'
        if host != 'mmdet':  # which the extra leaves out
            remedy = f'{MAINTAINED}, or {remedy}'
        raise ImportError(f'this part of mmrobust needs {host}, which is not installed: {remedy}')
    if lacking := lacks(host):
        raise ImportError(lacking)
    try:
        import_module(host)
    except AssertionError as error:  # its check of mmcv's or mmengine's version
        raise ImportError(f'{host} refuses what is installed beside it: {error}') from None


def several_opencvs() -> str | None:
    """Packages that fill the same folder, so that the last one installed counts, in a sentence."""
    present = [name for name in OPENCV if installed(name)]
    if len(present) < 2:
        return None
    return (f'{" and ".join(present)} are installed over each other, cv2 is the last one\'s: `pip '
            f'uninstall {" ".join(present)}`, then install one of them')


def lacks(host: str) -> str | None:
    """What the parts of a host library need and do not find, in a sentence.

    The originals do not say at once: ``import mmseg`` works, ``import mmseg.models`` does not.
    """
    if host == 'mmdet' and installed(HOSTS[host][0]) and not there('mmcv._ext'):
        return (f'{HOSTS[host][0]} imports compiled operators of mmcv, with which your onedl-mmcv '
                'was not built: install a build of it that has them')
    if host not in ('mmseg', 'mmdet') or installed(HOSTS[host][0]):
        return None
    if there('mmcv') and not there('mmcv._ext'):
        return (f'{host} imports compiled operators of mmcv, which mmcv-lite does not have: '
                '`pip uninstall mmcv-lite mmcv`, then `mim install "mmcv>=2.0.1,<2.2"` where there '
                f'is one for your torch; or {MAINTAINED} in an environment of its own, which '
                'needs none')
    missing = [name for name in ('ftfy', 'regex') if host == 'mmseg' and not there(name)]
    if missing:
        return (f'mmseg needs {" and ".join(missing)}, which it does not bring itself: `pip '
                f'install {" ".join(missing)}`')
    return None


def _of_family(host: str) -> str:
    return HOSTS[host][1 if family() == 'original' else 0]
