#!/usr/bin/env python
"""Compare the robustness of several models: one table, CSV and plot, with differences."""
import argparse
import sys


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('results', nargs='+', metavar='results.json',
                        help='what the benchmark wrote; differences are to the first one')
    parser.add_argument('--names', nargs='+', help='what to call the models')
    parser.add_argument('--out', metavar='DIR', help='folder for comparison.csv and comparison.png')
    args = parser.parse_args()
    from mmrobust.evaluation.comparison import compare

    print(compare(args.results, args.out, args.names))


if __name__ == '__main__':
    from mmrobust.utils.cli import run

    sys.exit(run(main))
