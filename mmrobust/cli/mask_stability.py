"""Histogram, over many random masks of one image, of how similar attention stays.

    %(prog)s CONFIG CHECKPOINT [CONFIG CHECKPOINT ...] \\
        --image 0 --masks 1000 --occlude 0.1
"""
import argparse

from .arguments import add_condition, add_heads, add_layers, add_models, conditions, load_subjects


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_models(parser)
    add_condition(parser, None)
    add_layers(parser, 'all')
    add_heads(parser)
    parser.add_argument('--image', default='0',
                        help='an image file, or a position in the test data (default: 0)')
    parser.add_argument('--masks', type=int, default=1000, metavar='N', help='default: 1000')


def run(args: argparse.Namespace) -> None:
    args.occlude = 0.1 if args.occlude is None else args.occlude
    from mmrobust.analysis.masks import mask_stability

    condition, = conditions(args)
    print(mask_stability(
        load_subjects(args), int(args.image) if args.image.isdigit() else args.image,
        condition, args.out, args.masks, args.layers, args.heads))
