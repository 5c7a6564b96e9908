"""Histograms of the similarity between clean and changed attention, of one or several models.

    %(prog)s CONFIG CHECKPOINT [CONFIG CHECKPOINT ...] \\
        --names plain "TAP & ADL" --corruption gaussian_noise fog --heads each
    %(prog)s CONFIG CHECKPOINT --occlude 0.1
"""
import argparse

from .arguments import add_condition, add_heads, add_layers, add_models, conditions, load_subjects


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_models(parser, images=50)
    add_condition(parser, 'gaussian_noise', several=True)
    add_layers(parser, 'all')
    add_heads(parser)


def run(args: argparse.Namespace) -> None:
    from mmrobust.analysis.stability import attention_stability

    seen = conditions(args)
    print(attention_stability(
        load_subjects(args), seen, args.out,
        args.images, args.seed, args.layers, args.heads))
