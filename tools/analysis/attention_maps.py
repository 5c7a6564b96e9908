#!/usr/bin/env python
"""Draw attention on one image, clean and corrupted, layers in a row.

    python tools/analysis/attention_maps.py CONFIG CHECKPOINT --corruption fog
    python tools/analysis/attention_maps.py CONFIG CHECKPOINT --image street.png --queries 0.7,0.5
"""
from _common import add_corruption, add_layers, conditions, load_subjects, main, model_parser


def place(text: str) -> tuple[float, float]:
    top, left = map(float, text.split(','))
    return top, left


def run() -> None:
    parser = model_parser(__doc__)
    add_corruption(parser, 'gaussian_noise')
    add_layers(parser, 'up to six, evenly spread')
    parser.add_argument('--image', default='0',
                        help='an image file, or a position in the test data (default: 0)')
    parser.add_argument('--head', type=int, help='one head (default: their mean)')
    parser.add_argument('--queries', nargs='+', type=place, default=(), metavar='TOP,LEFT',
                        help='tokens, by their place as parts of the image, whose attention is '
                        'laid over it (default: the whole matrices)')
    args = parser.parse_args()
    from mmrobust.analysis.maps import draw_attention_maps

    print(draw_attention_maps(
        load_subjects(args), int(args.image) if args.image.isdigit() else args.image,
        conditions(args)[0], args.out, args.layers, args.head,
        args.queries))


if __name__ == '__main__':
    main(run)
