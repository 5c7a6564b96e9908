"""Run a robustness benchmark on a checkpoint; interrupted and repeated, it goes on.

    %(prog)s CONFIG CHECKPOINT cityscapes-c
    %(prog)s CONFIG CHECKPOINT fog,gaussian_noise --severities 3
"""
import argparse

from .test import add_model, add_options, run

__all__ = ['add_arguments', 'run']


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument('benchmark', metavar='NAME',
                        help='a benchmark (`mmrobust list benchmarks`), or types and groups of '
                        'corruptions, separated by commas')
    add_options(parser)
    parser.set_defaults(out=None)
