#!/usr/bin/env python
"""Evaluate a checkpoint of any OpenMMLab config, or run a robustness benchmark on it."""
import argparse
import os
import sys
from pathlib import Path

from mmrobust.utils.options import Overrides


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file, or a work dir for its last one')
    parser.add_argument('--work-dir', help='where logs and results go '
                        '(default: work_dirs/NAME_OF_CONFIG)')
    parser.add_argument('--benchmark', metavar='NAME',
                        help='cityscapes-c, acdc, imagenet-c, pgd, ... or groups and names of '
                        'corruptions')
    parser.add_argument('--corruptions', nargs='+', metavar='NAME',
                        help='only these corruptions of the benchmark')
    parser.add_argument('--severities', nargs='+', type=int, metavar='N',
                        help='only these severities (1 to 5)')
    parser.add_argument('--corrupted-root', metavar='DIR',
                        help='read corrupted images from DIR/<type>/<severity>/ instead of '
                        'corrupting on the fly')
    parser.add_argument('--benchmark-options', nargs='+', action=Overrides, metavar='KEY=VALUE',
                        help='options of the benchmark, e.g. data_root=data/ACDC')
    parser.add_argument('--out', metavar='FILE.pkl', help='save the raw predictions')
    parser.add_argument('--show-dir', metavar='DIR', help='save pictures of the predictions')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    parser.add_argument('--trust', action='store_true',
                        help='let the checkpoint run code of its own when it is loaded')
    parser.add_argument('--cfg-options', nargs='+', action=Overrides, metavar='KEY=VALUE',
                        help='overrides of the config')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'],
                        default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0,
                        help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    for flag in ('corruptions', 'severities', 'corrupted_root', 'benchmark_options'):
        if getattr(args, flag) and not args.benchmark:
            parser.error(f'--{flag.replace("_", "-")} needs --benchmark')
    if args.out and args.benchmark:
        parser.error('--out keeps the predictions of one test; a benchmark writes results.json')
    return args


def main() -> None:
    args = parse_args()
    from mmrobust.apis import load_config, test
    from mmrobust.apis.checks import require_parts
    from mmrobust.apis.config import find_checkpoint
    from mmrobust.apis.launch import add_test_time_augmentation, draw_predictions

    cfg = load_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(
        Path('work_dirs') / Path(args.config).stem)
    cfg.load_from = find_checkpoint(args.checkpoint)
    if args.tta:
        add_test_time_augmentation(cfg)
    if args.benchmark:
        from mmrobust.evaluation import apply_benchmark

        options = args.benchmark_options or {}
        if args.show_dir:
            options['show_dir'] = args.show_dir
        apply_benchmark(cfg, args.benchmark, corruptions=args.corruptions,
                        severities=args.severities, corrupted_root=args.corrupted_root,
                        **options)
    elif args.show_dir:
        draw_predictions(cfg, args.show_dir)
    if args.amp:
        require_parts(cfg, 'test_cfg')
        cfg.test_cfg.fp16 = True
    test(cfg, predictions=args.out, trust=args.trust)


if __name__ == '__main__':
    from mmrobust.utils.cli import run

    sys.exit(run(main))
