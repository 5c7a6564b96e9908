"""Compare the robustness of several models: one table, CSV and plot, with differences."""
import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('results', nargs='+', metavar='results.json',
                        help='what the benchmark wrote; differences are to the first one')
    parser.add_argument('--names', nargs='+', help='what to call the models')
    parser.add_argument('--out', metavar='DIR', help='folder for comparison.csv and comparison.png')


def run(args: argparse.Namespace) -> None:
    from mmrobust.evaluation.comparison import compare

    print(compare(args.results, args.out, args.names))
