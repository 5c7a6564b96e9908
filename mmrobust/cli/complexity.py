"""Count parameters and operations of models, and the share of attention and of TAP.

    %(prog)s fan_b_imagenet fan_b_tap_imagenet
    %(prog)s fan_b_imagenet --local-aggregations
"""
import argparse
from pathlib import Path

from .arguments import add_overrides, config_name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('configs', nargs='+', help='config files, or names of ours')
    parser.add_argument('--shape', nargs=2, type=int, metavar=('HEIGHT', 'WIDTH'),
                        help='of the image (default: the crop of a segmenter, else 224 224)')
    parser.add_argument('--local-aggregations', action='store_true',
                        help='each model without and with average pooling, convolution, '
                        "multi-kernel TAP and TAP: the TAP & ADL paper's table 1")
    add_overrides(parser, 'of all configs')
    parser.add_argument('--out', help='folder of the results '
                        '(default: work_dirs/NAME_OF_FIRST_CONFIG/analysis)')


def run(args: argparse.Namespace) -> None:
    from mmrobust.analysis.complexity import complexity, local_aggregations
    from mmrobust.apis.checks import require_parts
    from mmrobust.apis.config import adapt_to_cpu, load_config

    configs = []
    for path in args.configs:
        cfg = load_config(path, args.cfg_options)
        require_parts(cfg, 'model')
        adapt_to_cpu(cfg)
        name = config_name(path)
        configs += local_aggregations(name, cfg) if args.local_aggregations else [(name, cfg)]
    out = args.out or Path('work_dirs', config_name(args.configs[0]), 'analysis')
    print(complexity(configs, out, args.shape))
