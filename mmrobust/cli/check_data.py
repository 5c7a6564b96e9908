"""Read the data of a config, or of a benchmark, file by file, and say what they hold.

    %(prog)s CONFIG                                  # training, validation and test data
    %(prog)s CONFIG acdc --benchmark-options data_root=/data/acdc

Needs no model. Missing, damaged and mismatched files, and labels that are no classes, are named.
"""
import argparse

from mmrobust.utils.options import Overrides

from .arguments import CONFIG, add_overrides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('config', help=CONFIG)
    parser.add_argument('benchmark', nargs='?', metavar='NAME',
                        help='what this benchmark reads, instead of the data of the config')
    parser.add_argument('--benchmark-options', nargs='+', action=Overrides, metavar='KEY=VALUE',
                        help='options of the benchmark, e.g. data_root=data/ACDC')
    add_overrides(parser)


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.benchmark_options and not args.benchmark:
        parser.error('--benchmark-options needs the name of a benchmark')


def run(args: argparse.Namespace) -> None:
    from mmengine.registry import init_default_scope

    from mmrobust.apis import load_config
    from mmrobust.evaluation.data_check import check_data
    from mmrobust.evaluation.protocols import get_protocol

    cfg = load_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    protocol = args.benchmark and get_protocol(args.benchmark, **(args.benchmark_options or {}))
    for sentence in check_data(cfg, protocol):
        print(sentence, flush=True)
