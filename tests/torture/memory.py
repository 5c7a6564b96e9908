"""Memory of a process that runs 2,000 cells of benchmarks, and of its workers.

    python tests/torture/memory.py
"""
import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import torch  # noqa: E402
from groups import family  # noqa: E402
from kinds import benchmark_config, write_images  # noqa: E402
from mmengine.hooks import Hook  # noqa: E402
from mmengine.registry import HOOKS  # noqa: E402

from mmrobust.apis import test  # noqa: E402

CELLS = 0
PEAK_OF_WORKERS = 0.


def resident(pid: int) -> float:
    """Megabytes of a process, without the files that it maps."""
    fields = dict(line.split(':') for line in Path(f'/proc/{pid}/status').read_text().splitlines())
    return int(fields['RssAnon'].split()[0]) / 1024


@HOOKS.register_module()
class MemoryHook(Hook):
    """Prints the memory of the process and of the worker at some numbers of cells."""

    def __init__(self, at: list[int]) -> None:
        self.at = at

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        global PEAK_OF_WORKERS
        for pid in list(family(os.getpid()))[1:]:
            try:
                PEAK_OF_WORKERS = max(PEAK_OF_WORKERS, resident(pid))
            except (OSError, KeyError):  # it has ended
                continue

    def after_test_epoch(self, runner, metrics=None) -> None:
        global CELLS, PEAK_OF_WORKERS
        CELLS += 1
        if CELLS in self.at:
            files = len(os.listdir('/proc/self/fd'))
            print(f'{CELLS:5} cells: process {resident(os.getpid()):6.1f} MB, '
                  f'workers at most {PEAK_OF_WORKERS:6.1f} MB, {files} open files', flush=True)
            PEAK_OF_WORKERS = 0.
        if CELLS == self.at[-1]:
            raise KeyboardInterrupt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--at', type=int, nargs='+', default=[100, 500, 1000, 1500, 2000],
                        metavar='CELLS', help='when to look (default: %(default)s)')
    parser.add_argument('--workers', type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as root:
        write_images(Path(root, 'images'), count=1)
        try:
            for number in range(10 ** 6):
                test(benchmark_config(
                    Path(root, str(number)), None,
                    **{'randomness.seed': number, 'test_dataloader.num_workers': args.workers,
                       'custom_hooks': [dict(type='MemoryHook', at=args.at)]}))
        except KeyboardInterrupt:
            print(f'{time.monotonic() - began:.0f} s')


if __name__ == '__main__':
    main()
