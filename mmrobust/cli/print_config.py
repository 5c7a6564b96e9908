"""Print a config as it is after inheritance and overrides."""
import argparse
from pathlib import Path

from .arguments import CONFIG, add_overrides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('config', help=CONFIG)
    parser.add_argument('--save-path', help='also write it to this .py, .json or .yml file')
    add_overrides(parser)


def run(args: argparse.Namespace) -> None:
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
