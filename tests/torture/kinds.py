"""What is interrupted: trainings, benchmarks, corrupted copies, and how each of them ends."""
import hashlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import interruptions as on
import numpy as np
import torch
from tiny import final_state, tiny_config

from mmrobust.apis import test, train
from mmrobust.datasets.corrupted_copy import write_corrupted_copies
from mmrobust.utils import files

HERE = Path(__file__).resolve().parent


def training(**options) -> Callable:
    def work(folder: Path) -> None:
        cfg = tiny_config(folder, resume=True, pause=.002, **options)
        cfg.launcher = 'pytorch' if 'RANK' in os.environ else 'none'
        train(cfg)

    return work


def end_of_training(folder: Path) -> str:
    iterations, tensors = final_state(folder)
    digest = hashlib.sha256(str(iterations).encode())
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


def benchmark_config(folder: Path, corruptions=('gaussian_noise', 'brightness', 'contrast'),
                     **changes):
    """A classifier of MMPretrain's on the images, and corruptions of them."""
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
    apply_benchmark(cfg, 'robustness', corruptions=corruptions)
    return cfg


def benchmarking(folder: Path) -> None:
    test(benchmark_config(folder))


def end_of_benchmark(folder: Path) -> str:
    path = next(folder.glob('*/results.json'))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def by_torchrun(folder: Path) -> list[str]:
    return ['-m', 'mmrobust.utils.torchrun', '--standalone', '--nproc-per-node=2',
            str(HERE / 'train_tiny.py'), str(folder), '--resume', '--launcher', 'pytorch',
            '--pause', '.002']


def ablation(folder: Path) -> list[str]:
    small = [f'{part}_dataloader.{option}' for part in ('train', 'val', 'test') for option in (
        'num_workers=0', 'persistent_workers=False', 'dataset.image_size=(64,64)')]
    small += ['val_dataloader.dataset.num_samples=2', 'test_dataloader.dataset.num_samples=2',
              'train_dataloader.batch_size=2', 'model.data_preprocessor.size=(64,64)',
              'model.decode_head.channels=16', 'train_cfg.max_iters=4',
              'default_hooks.checkpoint.interval=1', 'randomness.seed=0']
    return ['-m', 'mmrobust', 'ablation', 'configs/fan_demo_tap_adl_streets.py',
            'model.diversification.tau=1', '--benchmark', 'fog', '--severities', '1',
            '--out', str(folder), '--cfg-options', *small]


def end_of_ablation(folder: Path) -> str:
    return (folder / 'ablation.csv').read_text()


class Kind(NamedTuple):
    """What is done, with how many processes (0: a command), and how it is interrupted."""

    work: Callable
    processes: int
    end: Callable[[Path], str]  # a digest of it
    interrupt: Callable
    disturb: Callable | None = None
    share: int = 1  # of the trials of the campaign


BY_ITERATION, BY_EPOCH, WITH_WORKERS = training(), training(by_epoch=True), training(workers=2)


def _one(work: Callable, end: Callable, interrupt: Callable, share: int) -> Kind:
    return Kind(work, 1, end, interrupt, None, share)


def _within(work: Callable, end: Callable, disturb: Callable, share: int) -> Kind:
    return Kind(work, 1, end, on.nothing, disturb, share)


KINDS = {
    'train by iteration, SIGKILL': _one(BY_ITERATION, end_of_training, on.kill, 24),
    'train by epoch, SIGKILL': _one(BY_EPOCH, end_of_training, on.kill, 16),
    'train, 2 workers, SIGKILL': _one(WITH_WORKERS, end_of_training, on.kill, 12),
    'train, SIGKILL within a write': _within(BY_ITERATION, end_of_training, on.die_in_a_write, 36),
    'train by epoch, SIGKILL within a write': _within(BY_EPOCH, end_of_training,
                                                      on.die_in_a_write, 16),
    'train, SIGTERM then SIGKILL': _one(BY_ITERATION, end_of_training, on.stop_then_kill, 16),
    'train by epoch, SIGTERM then SIGKILL': _one(BY_EPOCH, end_of_training,
                                                 on.stop_then_kill, 8),
    'train, a stop request': _one(BY_ITERATION, end_of_training, on.stop, 8),
    'train, a worker killed': _one(WITH_WORKERS, end_of_training, on.kill_worker, 10),
    'train, full disk': _within(BY_ITERATION, end_of_training, on.fill_the_disk, 10),
    'train, read-only': _within(BY_ITERATION, end_of_training, on.read_only, 10),
    '2 processes, SIGKILL of all': Kind(BY_ITERATION, 2, end_of_training, on.kill, share=6),
    '2 processes, SIGKILL of one': Kind(BY_ITERATION, 2, end_of_training, on.kill_one, share=10),
    '2 processes, SIGTERM then SIGKILL': Kind(BY_EPOCH, 2, end_of_training, on.stop_then_kill,
                                              share=4),
    '2 processes, one is asked to stop': Kind(BY_ITERATION, 2, end_of_training, on.stop, share=8),
    'benchmark, SIGKILL': _one(benchmarking, end_of_benchmark, on.kill, 14),
    'benchmark, SIGKILL within a write': _within(benchmarking, end_of_benchmark,
                                                 on.die_in_a_write, 10),
    'benchmark, a stop request': _one(benchmarking, end_of_benchmark, on.stop, 4),
    'benchmark, full disk': _within(benchmarking, end_of_benchmark, on.fill_the_disk, 4),
    'corrupted copies, SIGKILL': _one(copying, end_of_copying, on.kill, 8),
    'corrupted copies, SIGKILL within a write': _within(copying, end_of_copying,
                                                        on.die_in_a_write, 8),
    'torchrun alone, SIGKILL': Kind(by_torchrun, 0, end_of_training,
                                    on.late(signal.SIGKILL, .2), share=3),
    'torchrun alone, SIGINT': Kind(by_torchrun, 0, end_of_training,
                                   on.late(signal.SIGINT, .2), share=3),
    'ablation, SIGTERM': Kind(ablation, 0, end_of_ablation, on.late(signal.SIGTERM, .6), share=2),
    'ablation, SIGKILL': Kind(ablation, 0, end_of_ablation, on.late(signal.SIGKILL, .6), share=2),
}
