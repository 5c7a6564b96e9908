#!/usr/bin/env python
"""Histogram, over many random masks of one image, of how similar attention stays.

    python tools/analysis/mask_stability.py CONFIG CHECKPOINT [CONFIG CHECKPOINT ...] \\
        --image 0 --masks 1000 --occlude 0.1
"""
from _common import (
    add_condition,
    add_heads,
    add_layers,
    conditions,
    load_subjects,
    main,
    model_parser,
)


def run() -> None:
    parser = model_parser(__doc__)
    add_condition(parser, None)
    add_layers(parser, 'all')
    add_heads(parser)
    parser.add_argument('--image', default='0',
                        help='an image file, or a position in the test data (default: 0)')
    parser.add_argument('--masks', type=int, default=1000, metavar='N', help='default: 1000')
    args = parser.parse_args()
    args.occlude = 0.1 if args.occlude is None else args.occlude
    from mmrobust.analysis.masks import mask_stability

    print(mask_stability(
        load_subjects(args), int(args.image) if args.image.isdigit() else args.image,
        conditions(args)[0], args.out, args.masks, args.layers, args.heads))


if __name__ == '__main__':
    main(run)
