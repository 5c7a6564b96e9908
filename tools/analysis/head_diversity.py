#!/usr/bin/env python
"""Similarity of heads, concentration and entropy of attention per layer, of one or several models.

    python tools/analysis/head_diversity.py CONFIG CHECKPOINT [CONFIG CHECKPOINT ...]
"""
from _common import add_condition, add_layers, conditions, load_subjects, main, model_parser


def run() -> None:
    parser = model_parser(__doc__, images=50)
    add_condition(parser, None)
    add_layers(parser, 'all')
    args = parser.parse_args()
    from mmrobust.analysis.diversity import head_diversity

    print(head_diversity(load_subjects(args), args.out, args.images, args.seed,
                         conditions(args)[0], args.layers))


if __name__ == '__main__':
    main(run)
