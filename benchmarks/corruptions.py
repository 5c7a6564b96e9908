"""Times every corruption against the package imagecorruptions-imaug, in one run on one core.

    python benchmarks/corruptions.py [--quick] [--sizes 2048x1024 224x224] [--image FILE]

The last line of each size sums the 72 cells of Cityscapes-C: 16 types, noise at severities 1 to 3,
the others at 1 to 5.
"""

import argparse
import contextlib
import io
import os
import time

for variable in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'):
    os.environ[variable] = '1'

import _measure  # noqa: E402
import cv2  # noqa: E402
import imagecorruptions  # noqa: E402
import numpy as np  # noqa: E402

from mmrobust.corruptions import NAMES, corrupt  # noqa: E402

CITYSCAPES_C = [name for name in NAMES
                if name not in ('zoom_blur', 'elastic_transform', 'pixelate')]


def scene(width: int, height: int) -> np.ndarray:
    """Draws a picture with structure at every scale, as photographs have."""
    rng = np.random.default_rng(0)
    picture = np.zeros((height, width, 3), np.float32)
    side = 4
    while side < max(height, width):
        coarse = rng.standard_normal((side, side, 3), dtype=np.float32)
        coarse += 2 * coarse.mean(axis=2, keepdims=True)  # photographs are not very colourful
        picture += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) / side ** .5
        side *= 2
    picture = 128 + 45 * (picture - picture.mean()) / picture.std()
    return np.clip(picture, 0, 255).astype(np.uint8)


def reference(image: np.ndarray, name: str, severity: int) -> np.ndarray:
    with contextlib.redirect_stdout(io.StringIO()):
        return imagecorruptions.corrupt(image, severity, name)


def ours(image: np.ndarray, name: str, severity: int) -> np.ndarray:
    return corrupt(image, name, severity, seed=severity)


def fastest(function, arguments, budget: float) -> float:
    """Returns the CPU time in ms of the fastest of 2 calls, or of as many as fit the budget."""
    times = []
    while len(times) < 2 or sum(times) < budget and len(times) < 20:
        start = time.process_time()
        function(*arguments)
        times.append(time.process_time() - start)
    return min(times) * 1000


def row(name: str, mine: float, theirs: float) -> str:
    return f'| {name:24} | {mine:9.2f} | {theirs:12.2f} | {theirs / mine:5.1f}x |'


def measure(image: np.ndarray, quick: bool) -> None:
    size = f'{image.shape[1]} x {image.shape[0]}'
    print(f'\n| {size:24} |   ours ms | reference ms |  ratio |'
          f'\n|{"-" * 26}|{"-" * 10}:|{"-" * 13}:|{"-" * 7}:|')
    total = np.zeros(2)
    for name in NAMES:
        severities = range(1, 4 if name.endswith('noise') else 6)
        times = np.zeros(2)
        for severity in severities[1::2] if quick else severities:
            arguments = image, name, severity
            times += [fastest(ours, arguments, .1), fastest(reference, arguments, .1)]
        times /= len(severities[1::2] if quick else severities)
        print(row(name, *times), flush=True)
        total += times * len(severities) * (name in CITYSCAPES_C)
    print(row('72 cells of Cityscapes-C', *total))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--sizes', type=_measure.size, nargs='+',
                        default=[(2048, 1024), (224, 224)], metavar='WIDTHxHEIGHT')
    parser.add_argument('--image', help='a picture to corrupt, scaled to the sizes')
    parser.add_argument('--quick', action='store_true', help='only every second severity')
    args = parser.parse_args()
    cv2.setNumThreads(1)
    picture = args.image and cv2.imread(args.image)
    if args.image and picture is None:
        raise SystemExit(f'{args.image} cannot be read as an image.')
    for width, height in args.sizes:
        image = scene(width, height) if picture is None else cv2.resize(
            cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), (width, height))
        measure(image, args.quick)


if __name__ == '__main__':
    main()
