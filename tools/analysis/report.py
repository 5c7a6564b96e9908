#!/usr/bin/env python
"""Gather benchmark results, analyses and pictures of models into one HTML page.

    python tools/analysis/report.py work_dirs/plain work_dirs/tap_adl --out report.html
"""
import argparse

from _common import main


def run() -> None:
    summary, _, usage = __doc__.partition('\n\n')
    parser = argparse.ArgumentParser(description=summary, epilog=usage,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR')
    parser.add_argument('--names', nargs='+', help='what to call the models')
    parser.add_argument('--out', default='report.html', metavar='FILE.html',
                        help='default: report.html')
    parser.add_argument('--pictures', type=int, default=6, metavar='N',
                        help='most pictures of predictions of each folder (default: 6)')
    parser.add_argument('--title', default='Robustness report')
    args = parser.parse_args()
    from mmrobust.analysis.report import write_report

    print(write_report(args.work_dirs, args.out, args.names, args.pictures, args.title))


if __name__ == '__main__':
    main(run)
