"""Convert CamVid, as it is commonly distributed, to the layout of Cityscapes."""
import argparse

NEEDS_HOSTS = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('source', help='folder with train/ and trainannot/, or with '
                        '701_StillsRaw_full/ and LabeledApproved_full/')
    parser.add_argument('target', nargs='?', default='data/camvid',
                        help='folder to write (default: %(default)s)')
    parser.add_argument('--size', nargs=2, type=int, default=(480, 360),
                        metavar=('WIDTH', 'HEIGHT'), help='default: 480 360')
    parser.add_argument('--quality', type=int, default=95,
                        help='of the JPEG images, 1 to 100 (default: %(default)s)')


def run(args: argparse.Namespace) -> None:
    from mmrobust.datasets.camvid import convert

    counts = convert(args.source, args.target, tuple(args.size), args.quality)
    print(f'{args.target}: ' + ', '.join(f'{count} {split}' for split, count in counts.items()))
