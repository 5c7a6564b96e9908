"""Draw attention on images, clean and corrupted or partly occluded; layers or heads in a row.

    %(prog)s CONFIG CHECKPOINT --corruption fog
    %(prog)s CONFIG CHECKPOINT --image 3 8 --heads each --occlude 0.1
    %(prog)s CONFIG CHECKPOINT --image street.png --queries 0.7,0.5
"""
import argparse

from .arguments import add_condition, add_heads, add_layers, add_models, conditions, load_subjects


def place(text: str) -> tuple[float, float]:
    try:
        top, left = map(float, text.split(','))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"'{text}' is no place: write TOP,LEFT as parts of the image, such as 0.7,0.5"
        ) from None
    return top, left


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_models(parser)
    add_condition(parser, 'gaussian_noise')
    add_layers(parser, 'up to six, evenly spread; with each head, the last')
    add_heads(parser, single=True)
    parser.add_argument('--image', nargs='+', default=['0'], metavar='IMAGE',
                        help='image files, or positions in the test data (default: 0)')
    parser.add_argument('--queries', nargs='+', type=place, default=(), metavar='TOP,LEFT',
                        help='tokens, by their place as parts of the image, whose attention is '
                        'laid over it, their own square in red (default: the whole matrices)')


def run(args: argparse.Namespace) -> None:
    from mmrobust.analysis.maps import draw_attention_maps

    condition, = conditions(args)
    print(draw_attention_maps(
        load_subjects(args), [int(image) if image.isdigit() else image for image in args.image],
        condition, args.out, args.layers,
        None if args.heads == 'mean' else args.heads, args.queries))
