#!/usr/bin/env python
"""Draw which dilation each token chose in token-aware average pooling.

    python tools/analysis/tap_weights.py CONFIG CHECKPOINT --images 3
"""
from _common import add_condition, add_layers, conditions, load_subjects, main, model_parser


def run() -> None:
    parser = model_parser(__doc__, images=3)
    add_condition(parser, None)
    add_layers(parser, 'up to six, evenly spread')
    parser.add_argument('--image', metavar='FILE', help='an image file instead of test data')
    args = parser.parse_args()
    from mmrobust.analysis.branches import tap_weights

    subject, *others = load_subjects(args)
    if others:
        raise ValueError(f'{1 + len(others)} models: tap_weights.py draws one at a time')
    print(tap_weights(subject, args.out, args.images, args.seed,
                      conditions(args)[0], args.layers, args.image))


if __name__ == '__main__':
    main(run)
