"""Digests of every corruption at every severity of both families, of fixed pictures.

    python tests/corruptions/digests.py              prints them as JSON
    python tests/corruptions/digests.py --write      stores them beside this file

It needs the libraries of ``mmrobust.corruptions`` only, no MMEngine and no torch.
"""
import argparse
import json
import os
import sys
import types
from pathlib import Path

STORED = Path(__file__).with_name('digests.json')
SIZES = {'colour': (97, 160, 3), 'grey': (64, 33)}  # (H, W, C) or (H, W); odd sides, not square


def load_alone() -> None:
    """Lets ``mmrobust.corruptions`` be imported without ``mmrobust``, which needs MMEngine."""
    package = types.ModuleType('mmrobust')
    package.__path__ = [str(Path(__file__).parents[2] / 'mmrobust')]
    sys.modules['mmrobust'] = package


def digests(sizes: dict[str, tuple[int, ...]] = SIZES, names: list[str] | None = None,
            large: tuple[int, int] | None = None) -> dict[str, str]:
    """Returns a digest of each cell, 'family name severity picture'.

    Args:
        sizes: The shapes of the pictures.
        names: Only these types.
        large: Height and width of a further picture, which shows rare differences.
    """
    from mmrobust.corruptions import NAMES, corrupt
    from mmrobust.corruptions.severities import SEVERITIES
    from mmrobust.corruptions.signature import digest, picture
    pictures = {label: picture(*shape[:2])[..., :3 if shape[2:] else 1].reshape(shape)
                for label, shape in {**sizes, **({'large': (*large, 3)} if large else {})}.items()}
    return {f'{family} {name} {severity} {label}': digest(
                corrupt(image, name, severity, seed=severity, family=family))
            for family in SEVERITIES for name in names or NAMES for severity in range(1, 6)
            for label, image in pictures.items()}


def versions() -> dict[str, str]:
    import cv2
    import numba
    import numpy
    import PIL
    import scipy
    return dict(python='.'.join(map(str, sys.version_info[:3])), opencv=cv2.__version__,
                numpy=numpy.__version__, scipy=scipy.__version__, numba=numba.__version__,
                pillow=PIL.__version__)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--write', action='store_true', help=f'store them in {STORED.name}')
    parser.add_argument('--names', nargs='+', help='only these types')
    parser.add_argument('--large', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'),
                        help='with a further picture of this size')
    args = parser.parse_args()
    load_alone()
    if 'CV2_THREADS' in os.environ:
        import cv2
        cv2.setNumThreads(int(os.environ['CV2_THREADS']))
    result = digests(names=args.names, large=args.large)
    if args.write:
        STORED.write_text(json.dumps(result, indent=0) + '\n', encoding='utf-8')
    else:
        json.dump(dict(versions=versions(), digests=result), sys.stdout)


if __name__ == '__main__':
    main()
