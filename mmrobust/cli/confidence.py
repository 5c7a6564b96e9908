"""Draw images clean and changed, with each model's confidence of the true class.

    %(prog)s CONFIG CHECKPOINT [CONFIG CHECKPOINT ...] --occlude 0.1 --chosen-by AFAT_CHECKPOINT
"""
import argparse

from .arguments import add_condition, add_models, conditions, load_subjects


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_models(parser, images=4)
    add_condition(parser, None)
    parser.add_argument('--indices', nargs='+', type=int, metavar='I',
                        help='these images of the test data instead of a random choice')


def run(args: argparse.Namespace) -> None:
    from mmrobust.analysis.confidence import draw_confidences

    condition, = conditions(args)
    print(draw_confidences(load_subjects(args), condition, args.out, args.images,
                           args.seed, args.indices))
