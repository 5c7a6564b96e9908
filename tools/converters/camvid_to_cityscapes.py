#!/usr/bin/env python
"""Convert CamVid, as it is commonly distributed, to the layout of Cityscapes."""
import argparse
import sys


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('source', help='folder with train/ and trainannot/, or with '
                        '701_StillsRaw_full/ and LabeledApproved_full/')
    parser.add_argument('target', nargs='?', default='data/camvid',
                        help='folder to write (default: %(default)s)')
    parser.add_argument('--size', nargs=2, type=int, default=(480, 360),
                        metavar=('WIDTH', 'HEIGHT'), help='default: 480 360')
    parser.add_argument('--quality', type=int, default=95,
                        help='of the JPEG images, 1 to 100 (default: %(default)s)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmrobust.datasets.camvid import convert

    counts = convert(args.source, args.target, tuple(args.size), args.quality)
    print(f'{args.target}: ' + ', '.join(f'{count} {split}' for split, count in counts.items()))


if __name__ == '__main__':
    from mmrobust.utils.cli import run

    sys.exit(run(main))
