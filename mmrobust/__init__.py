"""Robust attention, adversarial feature alignment and robustness benchmarks for OpenMMLab.

Importing the package registers everything it offers in MMEngine's root registries, by name only:
a module, and with it torch or a host library, is imported when it is first built.
"""
from typing import Any

from .registry import register_all
from .utils.shipped import find_our_bases
from .version import __version__

register_all()
find_our_bases()

__all__ = ['__version__', 'benchmark']


def __getattr__(name: str) -> Any:
    if name == 'benchmark':
        from .apis.benchmark import benchmark

        return benchmark
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
