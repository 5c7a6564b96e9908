"""The tiny training as a command, with the ends that our tools have."""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('folder')
    parser.add_argument('--length', type=int)
    parser.add_argument('--by-epoch', action='store_true')
    parser.add_argument('--workers', type=int, default=0)
    parser.add_argument('--pause', type=float, default=0.)
    parser.add_argument('--resume', action='store_true')
    parser.add_argument('--shown', action='store_true', help='log to the screen')
    parser.add_argument('--launcher', default='none')
    args = parser.parse_args()
    from tiny import tiny_config

    from mmrobust.apis import train

    train(tiny_config(args.folder, args.by_epoch, args.workers, args.length, pause=args.pause,
                      resume=args.resume, launcher=args.launcher,
                      log_level='INFO' if args.shown else 'WARNING'))


if __name__ == '__main__':
    from mmrobust.utils.cli import run

    sys.exit(run(main))
