"""Say what is installed, what works here and what does not, with remedies."""
import argparse
import platform
from collections.abc import Iterator

from mmrobust.utils import hosts
from mmrobust.version import __version__

NEEDS_HOSTS = False
OTHERS = ('torch', 'torchvision', 'triton', 'numpy', 'scipy', 'pillow', 'numba', 'matplotlib',
          'safetensors', 'imagecorruptions-imaug')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(args: argparse.Namespace) -> None:
    for name, version in _versions():
        print(f'{name:<24} {version or "not installed"}')
    print()
    for what, problem in _abilities():
        print(f'{what:<24} {problem or "works"}')
    if found := hosts.problems():
        raise ImportError('; '.join(found))


def _versions() -> Iterator[tuple[str, str | None]]:
    yield 'mmrobust', __version__
    yield 'Python', platform.python_version()
    for name in OTHERS:
        yield name, hosts.installed(name)
    for name in hosts.OPENCV:
        if version := hosts.installed(name):
            yield name, version
    yield 'OpenMMLab family', hosts.family()
    for pair in hosts.HOSTS.values():
        present = [(name, hosts.installed(name)) for name in pair if hosts.installed(name)]
        yield from present or [(pair[0], None)]
    if lite := hosts.installed('mmcv-lite'):
        yield 'mmcv-lite', lite


def _abilities() -> Iterator[tuple[str, str | None]]:
    """What may or may not work, and the sentence why not."""
    for what, host in (('segmentation', 'mmseg'), ('classification', 'mmpretrain'),
                       ('detection', 'mmdet')):
        yield what, _problem(lambda host=host: hosts.require(host))
    yield 'OpenCV', hosts.several_opencvs()
    yield 'corruptions', _problem(_corrupt)
    yield 'frost', _problem(lambda: _corrupt('frost'))
    yield 'GPU', _problem(_use_gpu)
    yield 'fused CUDA kernels', _problem(_use_kernels)


def _problem(attempt) -> str | None:
    """The first line of what goes wrong."""
    try:
        attempt()
    except Exception as error:  # whatever is broken here is what is to be told
        return f'no: {str(error) or type(error).__name__}'.partition('\n')[0]
    return None


def _corrupt(name: str = 'fog') -> None:
    import numpy as np

    from mmrobust.corruptions import corrupt
    corrupt(np.zeros((32, 32, 3), np.uint8), name, 1, seed=0)


def _use_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError('torch sees none; all works on the CPU, slowly')


def _use_kernels() -> None:
    import torch

    from mmrobust.ops.backend import OLDEST_TRITON
    present = hosts.installed('triton')
    if not present or hosts.release(present) < OLDEST_TRITON:
        raise RuntimeError(f'they need Triton {".".join(map(str, OLDEST_TRITON))} or newer, which '
                           'torch 2.5 and later bring; plain torch code is used instead')
    if not torch.cuda.is_available():
        raise RuntimeError('they need a GPU; the CPU has code of its own')
