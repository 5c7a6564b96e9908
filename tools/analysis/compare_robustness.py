"""Compare the robustness of several models: one table, CSV and plot, with differences.

    python tools/analysis/compare_robustness.py BASE/results.json OTHER/results.json --out DIR
"""
import argparse
import sys

from mmrobust.evaluation.comparison import compare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('results', nargs='+', help='results.json files; differences are to the '
                                                   'first one')
    parser.add_argument('--names', nargs='+', help='what to call the models')
    parser.add_argument('--out', help='folder for comparison.csv and comparison.png')
    args = parser.parse_args()
    try:
        print(compare(args.results, args.out, args.names))
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
