#!/usr/bin/env python
"""Histograms of the similarity between clean and changed attention, of one or several models.

    python tools/analysis/attention_stability.py CONFIG CHECKPOINT [CONFIG CHECKPOINT ...] \\
        --names plain "TAP & ADL" --corruption gaussian_noise fog --heads each
    python tools/analysis/attention_stability.py CONFIG CHECKPOINT --occlude 0.1
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
    parser = model_parser(__doc__, images=50)
    add_condition(parser, 'gaussian_noise', several=True)
    add_layers(parser, 'all')
    add_heads(parser)
    args = parser.parse_args()
    from mmrobust.analysis.stability import attention_stability

    print(attention_stability(
        load_subjects(args), conditions(args), args.out,
        args.images, args.seed, args.layers, args.heads))


if __name__ == '__main__':
    main(run)
