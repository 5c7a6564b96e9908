"""Write corrupted copies of an image folder: TARGET/<type>/<severity>/<path below SOURCE>.

Run again after an interruption, it continues. Labels are not copied: corruptions do not move
objects.
"""
import argparse
import os

NEEDS_HOSTS = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('source', help='folder with images, at any depth')
    parser.add_argument('target', help='folder to write')
    parser.add_argument('--corruptions', nargs='+', default=['benchmark'], metavar='NAME',
                        help='types, or groups: all, benchmark, noise, blur, weather, digital, '
                        'holdout (default: benchmark)')
    parser.add_argument('--severities', nargs='+', type=int, default=[1, 2, 3, 4, 5],
                        metavar='N', help='default: 1 2 3 4 5')
    parser.add_argument('--workers', type=int, default=os.cpu_count(), metavar='N',
                        help='processes (default: one per core)')
    parser.add_argument('--format', choices=('png', 'jpg'), default='png',
                        help='default: %(default)s')
    parser.add_argument('--quality', type=int, default=95,
                        help='of JPEG files, 1 to 100 (default: %(default)s)')
    parser.add_argument('--channel-order', choices=('rgb', 'bgr'), default='rgb',
                        help='as the corruptions see the image; bgr makes images like the '
                        'published Cityscapes-C (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='default: %(default)s')
    parser.add_argument('--family', choices=('imagenet', 'cifar'), default='imagenet',
                        help='table of severities (default: %(default)s)')


def run(args: argparse.Namespace) -> None:
    options = vars(args)
    from mmrobust.datasets.corrupted_copy import write_corrupted_copies

    written = write_corrupted_copies(**options)
    print(f'{options["target"]}: {written} images written')
