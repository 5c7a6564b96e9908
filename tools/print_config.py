#!/usr/bin/env python
"""Print a config as it is after inheritance and overrides."""
import argparse
import sys

from mmrobust.utils.options import Overrides


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--save-path', help='also write it to this .py, .json or .yml file')
    parser.add_argument('--cfg-options', nargs='+', action=Overrides, metavar='KEY=VALUE')
    args = parser.parse_args()

    from mmrobust.apis import load_config

    cfg = load_config(args.config, args.cfg_options)
    print(cfg.pretty_text)
    if args.save_path:
        cfg.dump(args.save_path)


if __name__ == '__main__':
    from mmrobust.utils.cli import run

    sys.exit(run(main))
