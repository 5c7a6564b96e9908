"""Draw which dilation each token chose in token-aware average pooling.

    %(prog)s CONFIG CHECKPOINT --images 3
"""
import argparse

from .arguments import add_condition, add_layers, add_models, conditions, load_subjects


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_models(parser, images=3)
    add_condition(parser, None)
    add_layers(parser, 'up to six, evenly spread')
    parser.add_argument('--image', metavar='FILE', help='an image file instead of test data')


def run(args: argparse.Namespace) -> None:
    from mmrobust.analysis.branches import tap_weights

    condition, = conditions(args)
    subject, *others = load_subjects(args)
    if others:
        raise ValueError(f'{1 + len(others)} models: tap_weights.py draws one at a time')
    print(tap_weights(subject, args.out, args.images, args.seed,
                      condition, args.layers, args.image))
