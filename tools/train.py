#!/usr/bin/env python
"""Train a model of any OpenMMLab config, ours or not."""
import argparse
import os
import sys
from pathlib import Path

from mmrobust.utils.options import Overrides


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='where logs and checkpoints go '
                        '(default: work_dirs/NAME_OF_CONFIG)')
    parser.add_argument('--resume', nargs='?', const='auto', metavar='CHECKPOINT',
                        help="continue from this checkpoint, or from the work dir's last one")
    parser.add_argument('--amp', action='store_true', help='mixed precision, on the CPU too')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help='scale the learning rate with the actual batch size')
    parser.add_argument('--trust', action='store_true',
                        help='let checkpoints run code of their own when they are loaded')
    parser.add_argument('--cfg-options', nargs='+', action=Overrides, metavar='KEY=VALUE',
                        help='overrides of the config, e.g. train_dataloader.batch_size=2')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'],
                        default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0,
                        help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def main() -> None:
    args = parse_args()
    import torch

    from mmrobust.apis import load_config, train
    from mmrobust.apis.config import scale_lr, use_amp

    cfg = load_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(
        Path('work_dirs') / Path(args.config).stem)
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    if args.amp:
        use_amp(cfg, on_cpu=not torch.cuda.is_available())
    if args.auto_scale_lr:
        scale_lr(cfg)
    train(cfg, trust=args.trust)


if __name__ == '__main__':
    from mmrobust.utils.cli import run

    sys.exit(run(main))
