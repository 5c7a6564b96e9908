"""Count parameters and operations of models, and the share of attention and of TAP.

    %(prog)s fan_b_imagenet fan_b_tap_imagenet
"""
import argparse
from pathlib import Path

from .arguments import config_name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('configs', nargs='+', help='config files, or names of ours')
    parser.add_argument('--shape', nargs=2, type=int, metavar=('HEIGHT', 'WIDTH'),
                        help='of the image (default: the crop of a segmenter, else 224 224)')
    parser.add_argument('--out', help='folder of the results '
                        '(default: work_dirs/NAME_OF_FIRST_CONFIG/analysis)')


def run(args: argparse.Namespace) -> None:
    from mmrobust.analysis.complexity import complexity
    from mmrobust.apis.checks import require_parts
    from mmrobust.apis.config import adapt_to_cpu, load_config

    configs = []
    for path in args.configs:
        cfg = load_config(path)
        require_parts(cfg, 'model')
        adapt_to_cpu(cfg)
        configs.append((config_name(path), cfg))
    out = args.out or Path('work_dirs', configs[0][0], 'analysis')
    print(complexity(configs, out, args.shape))
