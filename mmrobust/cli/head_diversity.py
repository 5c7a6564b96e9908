"""Similarity of heads, concentration and entropy of attention per layer, of one or several models.

    %(prog)s CONFIG CHECKPOINT [CONFIG CHECKPOINT ...]
"""
import argparse

from .arguments import add_condition, add_layers, add_models, conditions, load_subjects


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_models(parser, images=50)
    add_condition(parser, None)
    add_layers(parser, 'all')


def run(args: argparse.Namespace) -> None:
    from mmrobust.analysis.diversity import head_diversity

    condition, = conditions(args)
    print(head_diversity(load_subjects(args), args.out, args.images, args.seed,
                         condition, args.layers))
