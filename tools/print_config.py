#!/usr/bin/env python
"""Print a config as it is after inheritance and overrides."""
import argparse
import sys
from pathlib import Path

from mmrobust.utils.options import Overrides


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--save-path', help='also write it to this .py, .json or .yml file')
    parser.add_argument('--cfg-options', nargs='+', action=Overrides, metavar='KEY=VALUE')
    args = parser.parse_args()

    from mmrobust.apis.config import SUFFIXES, load_config
    from mmrobust.utils.mistakes import reading

    if args.save_path is not None and Path(args.save_path).suffix not in SUFFIXES:
        raise ValueError(f"--save-path '{args.save_path}': its name must end with "
                         f'{", ".join(SUFFIXES)}')
    cfg = load_config(args.config, args.cfg_options)
    with reading(f"the config '{args.config}' as text", 'keep to numbers, words, lists and dicts'):
        print(cfg.pretty_text)
        if args.save_path:
            cfg.dump(args.save_path)


if __name__ == '__main__':
    from mmrobust.utils.cli import run

    sys.exit(run(main))
