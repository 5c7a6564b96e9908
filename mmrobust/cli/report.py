"""Gather benchmark results, analyses and pictures of models into one HTML page.

    %(prog)s work_dirs/plain work_dirs/tap_adl --out report.html
"""
import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR')
    parser.add_argument('--names', nargs='+', help='what to call the models')
    parser.add_argument('--out', default='report.html', metavar='FILE.html',
                        help='default: report.html')
    parser.add_argument('--pictures', type=int, default=6, metavar='N',
                        help='most pictures of predictions of each folder (default: 6)')
    parser.add_argument('--title', default='Robustness report')


def run(args: argparse.Namespace) -> None:
    from mmrobust.analysis.html_report import write_report

    print(write_report(args.work_dirs, args.out, args.names, args.pictures, args.title))
