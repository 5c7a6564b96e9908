"""Kills, full disks and stop requests by the hundred: nothing is lost, every end is the same.

    make torture                                     # the whole campaign
    python tests/torture/campaign.py --trials 1      # one of each kind

Every trial runs in children of one warm process, is interrupted, and is then run again until it
is finished. Its end is compared, bit by bit, with that of an undisturbed run.
"""
import argparse
import errno
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from tiny import final_state, tiny_config  # noqa: E402

from mmrobust.apis import test, train  # noqa: E402
from mmrobust.checkpoints import latest_checkpoint  # noqa: E402
from mmrobust.datasets.corrupted_copy import write_corrupted_copies  # noqa: E402
from mmrobust.utils import cli, files  # noqa: E402
from mmrobust.utils.processes import end_with_parent  # noqa: E402

REPO = HERE.parents[1]
PATIENCE = 120  # seconds


class Group:
    """The processes of one run: children of this process, or a command."""

    def __init__(self, work: Callable[[], None], log: Path, processes: int = 1) -> None:
        self.log = log
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            port = probe.getsockname()[1]
        self.pids = [self._fork(work, rank, processes, port) for rank in range(processes)]

    def _fork(self, work: Callable[[], None], rank: int, processes: int, port: int) -> int:
        pid = os.fork()
        if pid:
            return pid
        os.setsid()
        end_with_parent(signal.SIGKILL)
        output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        if processes > 1:
            os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes),
                              MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
        status = 99
        try:
            sys.argv = ['torture']
            status = cli.run(work)
        finally:
            sys.stdout.flush()
            os._exit(status)

    def wait(self) -> list[int]:
        """Exit statuses. As torchrun does, one that fails takes the others with it."""
        statuses: dict[int, int] = {}
        deadline, failed = time.monotonic() + PATIENCE, None
        while len(statuses) < len(self.pids):
            for pid in set(self.pids) - statuses.keys():
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    statuses[pid] = os.waitstatus_to_exitcode(status)
            bad = any(statuses.values())
            if bad and failed is None:
                failed = time.monotonic()
                self.send(signal.SIGTERM, set(self.pids) - statuses.keys())
            if time.monotonic() > (deadline if failed is None else failed + 3):
                self.send(signal.SIGKILL, set(self.pids) - statuses.keys())
            time.sleep(.002)
        return [statuses[pid] for pid in self.pids]

    def send(self, number: int, pids=None) -> None:
        for pid in self.pids if pids is None else pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass


# Interruptions: each is given the running group, the seconds a run takes, and random numbers

def sleep_some(length: float, rng: random.Random) -> None:
    time.sleep(rng.uniform(0, 1.1 * length))


def kill(group: Group, length: float, rng: random.Random) -> None:
    sleep_some(length, rng)
    group.send(signal.SIGKILL)


def kill_one(group: Group, length: float, rng: random.Random) -> None:
    sleep_some(length, rng)
    group.send(signal.SIGKILL, [rng.choice(group.pids)])


def stop_then_kill(group: Group, length: float, rng: random.Random) -> None:
    sleep_some(length, rng)
    group.send(signal.SIGTERM)
    time.sleep(rng.uniform(0, .1))
    group.send(signal.SIGKILL)


def stop(group: Group, length: float, rng: random.Random) -> None:
    sleep_some(length, rng)
    number = rng.choice([signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
    group.send(number, [rng.choice(group.pids)])


def kill_worker(group: Group, length: float, rng: random.Random) -> None:
    deadline = time.monotonic() + length
    sleep_some(length / 2, rng)
    while time.monotonic() < deadline:
        try:
            children = [int(child) for path in Path(f'/proc/{group.pids[0]}/task').iterdir()
                        for child in (path / 'children').read_text().split()]
        except OSError:
            return
        if children:
            group.send(signal.SIGKILL, [rng.choice(children)])
            return
        time.sleep(.005)


def nothing(group: Group, length: float, rng: random.Random) -> None:
    """The interruption is within the work."""


# Disturbances of the work itself, inside the child

def die_in_a_write(rng: random.Random, folder: Path) -> None:
    """SIGKILL in the midst of writing a file, before it is flushed, or before it is renamed."""
    where = rng.choice(['open', 'fsync', 'replace'])
    count, original = [rng.randrange(1, 14)], getattr(files.os, where)

    def dying(*args, **kwargs):
        inside = where != 'open' or (len(args) > 1 and args[1] & os.O_CREAT)
        count[0] -= inside
        if inside and count[0] == 0:
            if where == 'fsync':  # half of the file is there
                os.ftruncate(args[0], os.fstat(args[0]).st_size // 2) if rng.random() < .5 else 0
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(files.os, where, dying)


def fill_the_disk(rng: random.Random, folder: Path) -> None:
    """After some files, no file may be longer than 2 kB."""
    count, original = [rng.randrange(1, 12)], files.os.replace

    def filling(*args):
        original(*args)
        count[0] -= 1
        if count[0] == 0:
            resource.setrlimit(resource.RLIMIT_FSIZE,
                               (2000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    files.os.replace = filling


def read_only(rng: random.Random, folder: Path) -> None:
    """After some files, the folder takes no new ones."""
    count, original = [rng.randrange(0, 24)], files.os.open

    def refusing(path, flags, *args, **kwargs):
        if flags & os.O_CREAT and str(path).startswith(str(folder)):
            count[0] -= 1
            if count[0] < 0:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return original(path, flags, *args, **kwargs)

    files.os.open = refusing


# Kinds of work: each a function of the folder, and a digest of its end

def training(**options) -> Callable:
    def work(folder: Path) -> None:
        cfg = tiny_config(folder, resume=True, pause=.002, **options)
        cfg.launcher = 'pytorch' if 'RANK' in os.environ else 'none'
        train(cfg)

    return work


def end_of_training(folder: Path) -> str:
    iterations, tensors = final_state(folder)
    assert iterations == 15, iterations
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest() + ' '.join(
        sorted(p.name for p in folder.glob('*.pth') if not files.is_temporary(p.name)))


def write_images(folder: Path, count: int = 4) -> None:
    rng = np.random.default_rng(0)
    for i in range(count):
        for label in 'ab':
            path = folder / label / f'{i}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            image = cv2.resize(rng.integers(0, 256, (4, 4, 3), np.uint8), (64, 64))
            cv2.imwrite(str(path), image)


def copying(folder: Path) -> None:
    write_corrupted_copies(str(folder.parent / 'images'), str(folder),
                           ['gaussian_noise', 'brightness', 'fog'], [1, 3, 5], workers=1)


def end_of_copying(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob('*') if p.is_file()):
        if files.is_temporary(path.name):
            continue
        digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


def benchmark_config(folder: Path, **changes):
    """A classifier of MMPretrain's on the images, and the corruptions of three types."""
    from mmengine.config import Config

    from mmrobust.evaluation import apply_benchmark

    torch.manual_seed(0)
    cfg = Config(dict(
        default_scope='mmpretrain', work_dir=str(folder), log_level='WARNING',
        experiment_name=f'benchmark_{time.monotonic_ns()}',
        model=dict(
            type='ImageClassifier',
            backbone=dict(type='ResNet_CIFAR', depth=18, base_channels=4, stem_channels=4,
                          num_stages=1, strides=(1,), dilations=(1,), out_indices=(0,)),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=2, in_channels=4),
            data_preprocessor=dict(type='ClsDataPreprocessor', num_classes=2,
                                   mean=[127.] * 3, std=[60.] * 3)),
        test_dataloader=dict(
            batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(type='CustomDataset', data_root=str(folder.parent / 'images'),
                         pipeline=[dict(type='LoadImageFromFile'),
                                   dict(type='PackInputs')])),
        test_evaluator=dict(type='Accuracy', topk=(1,)), test_cfg=dict(),
        randomness=dict(seed=0)))
    cfg.merge_from_dict(changes)
    apply_benchmark(cfg, 'robustness', corruptions=['gaussian_noise', 'brightness', 'contrast'])
    return cfg


def benchmarking(folder: Path) -> None:
    test(benchmark_config(folder))


def end_of_benchmark(folder: Path) -> str:
    path = next(folder.glob('*/results.json'))
    content = json.loads(path.read_text())
    assert content['finished'] == 16, content['finished']
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Command(Group):
    """A command in the place of children."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.log = log
        with log.open('ab') as output:
            self.process = subprocess.Popen(
                [sys.executable, *command], cwd=REPO, stdout=output, stderr=output,
                env={**os.environ, 'PYTHONPATH': str(REPO), 'OMP_NUM_THREADS': '1'})
        self.pids = [self.process.pid]

    def wait(self) -> list[int]:
        return [self.process.wait(PATIENCE)]


def by_torchrun(folder: Path) -> list[str]:
    return ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2',
            str(HERE / 'train_tiny.py'), str(folder), '--resume', '--launcher', 'pytorch',
            '--pause', '.002']


BY_ITERATION, BY_EPOCH, WITH_WORKERS = training(), training(by_epoch=True), training(workers=2)

# name -> (work, processes, digest of the end, interruption, disturbance, share of the trials)
KINDS = {
    'train by iteration, SIGKILL': (BY_ITERATION, 1, end_of_training, kill, None, 24),
    'train by epoch, SIGKILL': (BY_EPOCH, 1, end_of_training, kill, None, 16),
    'train, 2 workers, SIGKILL': (WITH_WORKERS, 1, end_of_training, kill, None, 12),
    'train, SIGKILL within a write': (BY_ITERATION, 1, end_of_training, nothing,
                                      die_in_a_write, 40),
    'train by epoch, SIGKILL within a write': (BY_EPOCH, 1, end_of_training,
                                               nothing, die_in_a_write, 16),
    'train, SIGTERM then SIGKILL': (BY_ITERATION, 1, end_of_training, stop_then_kill, None, 16),
    'train by epoch, SIGTERM then SIGKILL': (BY_EPOCH, 1, end_of_training,
                                             stop_then_kill, None, 8),
    'train, a stop request': (BY_ITERATION, 1, end_of_training, stop, None, 8),
    'train, a worker killed': (WITH_WORKERS, 1, end_of_training, kill_worker, None, 10),
    'train, full disk': (BY_ITERATION, 1, end_of_training, nothing, fill_the_disk, 10),
    'train, read-only': (BY_ITERATION, 1, end_of_training, nothing, read_only, 10),
    '2 processes, SIGKILL of all': (BY_ITERATION, 2, end_of_training, kill, None, 6),
    '2 processes, SIGKILL of one': (BY_ITERATION, 2, end_of_training, kill_one, None, 10),
    '2 processes, SIGTERM then SIGKILL': (BY_EPOCH, 2, end_of_training,
                                          stop_then_kill, None, 4),
    '2 processes, one is asked to stop': (BY_ITERATION, 2, end_of_training, stop, None, 8),
    'benchmark, SIGKILL': (benchmarking, 1, end_of_benchmark, kill, None, 14),
    'benchmark, SIGKILL within a write': (benchmarking, 1, end_of_benchmark, nothing,
                                          die_in_a_write, 10),
    'benchmark, a stop request': (benchmarking, 1, end_of_benchmark, stop, None, 4),
    'benchmark, full disk': (benchmarking, 1, end_of_benchmark, nothing, fill_the_disk, 4),
    'corrupted copies, SIGKILL': (copying, 1, end_of_copying, kill, None, 8),
    'corrupted copies, SIGKILL within a write': (copying, 1, end_of_copying, nothing,
                                                 die_in_a_write, 8),
    'torchrun alone, SIGKILL': (by_torchrun, 0, end_of_training, kill, None, 3),
    'torchrun alone, SIGINT': (by_torchrun, 0, end_of_training,
                               lambda group, length, rng: (sleep_some(length, rng),
                                                           group.send(signal.SIGINT)), None, 3),
}


class Campaign:
    """Trials, in folders below ``root``."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.rng = root, random.Random(seed)
        self.references: dict[tuple, tuple[str, float]] = {}
        write_images(root / 'images')

    def start(self, work: Callable, folder: Path, processes: int, disturb=None) -> Group:
        folder.mkdir(parents=True, exist_ok=True)
        log = self.root / f'{folder.name}.log'
        if processes == 0:
            return Command(work(folder), log)
        rng = random.Random(self.rng.random())

        def child() -> None:
            if disturb is not None:
                disturb(rng, folder)
            work(folder)

        return Group(child, log, processes)

    def reference(self, kind: str) -> tuple[str, float]:
        """The end of an undisturbed run, and how long it takes."""
        work, processes, digest, *_ = KINDS[kind]
        key = work, processes
        if key not in self.references:
            folder = self.root / f'reference_{list(KINDS).index(kind)}'
            began = time.monotonic()
            statuses = self.start(work, folder, processes).wait()
            assert not any(statuses), (self.root / f'{folder.name}.log').read_text()[-3000:]
            self.references[key] = digest(folder), time.monotonic() - began
        return self.references[key]

    def trial(self, kind: str, number: int) -> bool:
        """Interrupt a run once or twice, then let it finish; whether it had been interrupted.

        Raises:
            AssertionError: If anything was lost, or the end is another.
        """
        work, processes, digest, interrupt, disturb, _ = KINDS[kind]
        expected, length = self.reference(kind)
        folder = self.root / f'{list(KINDS).index(kind)}_{number}'
        interrupted = False
        for _ in range(self.rng.choice([1, 1, 2])):
            group = self.start(work, folder, processes, disturb)
            interrupt(group, length, self.rng)
            interrupted |= any(group.wait()) or interrupt is stop
            if digest is end_of_training:
                self.check_saved(folder)
        for _ in range(20):  # what ends with its launcher may still hold the folder for a moment
            statuses = self.start(work, folder, processes).wait()
            log = (self.root / f'{folder.name}.log').read_text()
            if not any(statuses) or 'is in use by' not in log.splitlines()[-1]:
                break
            time.sleep(.5)
        assert not any(statuses), f'{kind}, {folder}: {log[-2000:]}'
        assert digest(folder) == expected, f'{kind}, {folder}: another end'
        return interrupted

    def check_saved(self, folder: Path) -> None:
        """Once there was a checkpoint there is one, and all that have its name are whole."""
        pointer = folder / 'last_checkpoint'
        found = latest_checkpoint(folder)
        assert found is not None or not pointer.exists(), f'{folder}: lost'
        assert not (found and found.skipped), found.skipped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--trials', type=int, help='of each kind (default: 256 in all)')
    parser.add_argument('--kinds', nargs='+', choices=KINDS, default=list(KINDS), metavar='KIND',
                        help='only these: ' + '; '.join(KINDS))
    parser.add_argument('--minutes', type=float, help='start no trial after so many')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--keep', action='store_true', help='keep the folder of the trials')
    args = parser.parse_args()
    torch.set_num_threads(1)
    root = Path(tempfile.mkdtemp(prefix='torture_'))
    campaign, failures = Campaign(root, args.seed), []
    kinds = {kind: args.trials or KINDS[kind][-1] for kind in args.kinds}
    counts = {kind: [0, 0, 0] for kind in kinds}
    began = time.monotonic()
    # in turns, so that a campaign that is cut short has tried all kinds
    for number in range(max(kinds.values())):
        for kind, share in kinds.items():
            late = args.minutes and time.monotonic() - began > 60 * args.minutes
            if number >= share or late:
                continue
            counts[kind][0] += 1
            try:
                counts[kind][1] += campaign.trial(kind, number)
            except AssertionError as error:
                counts[kind][2] += 1
                failures.append(str(error))
                print(error, flush=True)
            print(f'{kind}: {counts[kind]}, {time.monotonic() - began:.0f} s', file=sys.stderr,
                  flush=True)
    print(table(counts))
    if failures:
        sys.exit(f'{len(failures)} trials failed, their folders are in {root}')
    if not args.keep:
        shutil.rmtree(root)


def table(counts: dict[str, list[int]]) -> str:
    """Trials, those that were interrupted before their end, and those that lost something."""
    rows = [('kind', 'trials', 'interrupted', 'lost or another end'),
            *((kind, *count) for kind, count in counts.items()),
            ('all', *map(sum, zip(*counts.values(), strict=True)))]
    return '\n'.join('| {:42} | {:>6} | {:>11} | {:>19} |'.format(*row) for row in rows)


if __name__ == '__main__':
    main()
