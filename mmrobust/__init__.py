"""Robust attention, adversarial feature alignment and robustness benchmarks for OpenMMLab.

Importing the package registers everything it offers in MMEngine's root registries, by name only:
a module, and with it torch or a host library, is imported when it is first built.
"""
import os
import sys
from typing import Any

try:
    from .registry import register_all
    from .utils.shipped import find_our_bases
    from .version import __version__

    register_all()
    find_our_bases()
except KeyboardInterrupt:
    # our commands end quietly even before their guard (utils.cli) is there
    _started = sys.argv[0] if sys.argv[:1] != ['-m'] else 'mmrobust'
    if os.path.basename(_started) != 'mmrobust' and not os.path.abspath(_started).startswith(
            os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'tools', '')):
        raise
    print('interrupted', file=sys.stderr)
    raise SystemExit(130) from None

__all__ = ['__version__', 'benchmark']


def __getattr__(name: str) -> Any:
    if name == 'benchmark':
        from .apis.benchmark import benchmark

        return benchmark
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
