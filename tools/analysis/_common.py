"""Arguments that the analysis tools share."""
import argparse
import sys
from pathlib import Path

from mmrobust.utils.options import Overrides


def model_parser(doc: str, images: int | None = None) -> argparse.ArgumentParser:
    """A parser with models, output and, where ``images`` is a number, the choice of images."""
    summary, _, usage = doc.partition('\n\n')
    parser = argparse.ArgumentParser(description=summary, epilog=usage,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('models', nargs='+', metavar='CONFIG CHECKPOINT',
                        help='a config and its checkpoint (a file, or a work dir for its last '
                        'one), for each model')
    parser.add_argument('--names', nargs='+', help='what to call the models')
    parser.add_argument('--out', help='folder of the results '
                        '(default: work_dirs/NAME_OF_FIRST_CONFIG/analysis)')
    parser.add_argument('--device', help='default: cuda where there is one, else cpu')
    parser.add_argument('--cfg-options', nargs='+', action=Overrides, metavar='KEY=VALUE',
                        help='overrides of all configs')
    parser.add_argument('--trust', action='store_true',
                        help='let checkpoints run code of their own when they are loaded')
    if images is not None:
        parser.add_argument('--images', type=int, default=images, metavar='N',
                            help=f'how many images of the test data (default: {images})')
        parser.add_argument('--seed', type=int, default=0, help='which ones (default: 0)')
    return parser


def add_corruption(parser: argparse.ArgumentParser, default: str | None, several: bool = False
                   ) -> None:
    parser.add_argument('--corruption', default=default, metavar='NAME',
                        nargs='+' if several else None, help=f'default: {default or "clean"}')
    parser.add_argument('--severity', type=int, default=3, choices=range(1, 6),
                        help='default: 3')
    parser.add_argument('--family', choices=('imagenet', 'cifar'), default='imagenet',
                        help='severity table; cifar is for 32 x 32 pixels (default: imagenet)')


def conditions(args: argparse.Namespace) -> list:
    """The corruptions that the arguments name; a clean one if none."""
    from mmrobust.analysis.subject import Condition

    names = args.corruption if isinstance(args.corruption, list) else [args.corruption]
    return [Condition(name, args.severity, family=args.family) for name in names]


def add_layers(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument('--layers', nargs='+', metavar='LAYER',
                        help='names of attention layers, or positions from 0; -1 is the last one '
                        f'(default: {default})')


def load_subjects(args: argparse.Namespace) -> list:
    """The models that the arguments name; sets ``args.out``.

    Raises:
        ValueError: If configs and checkpoints, or names, do not go together.
    """
    import torch

    from mmrobust.analysis.subject import Subject
    from mmrobust.apis.config import adapt_to_cpu, find_checkpoint, load_config

    if len(args.models) % 2:
        raise ValueError(f'{len(args.models)} arguments for the models: give a config and a '
                         'checkpoint for each')
    pairs = list(zip(args.models[::2], args.models[1::2], strict=True))
    names = args.names or [Path(config).stem for config, _ in pairs]
    if len(names) != len(pairs):
        raise ValueError(f'{len(names)} names for {len(pairs)} models: give one for each')
    if len(set(names)) < len(names):
        raise ValueError(f'the names {", ".join(names)} are not different: give --names')
    args.out = args.out or str(Path('work_dirs', Path(pairs[0][0]).stem, 'analysis'))
    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    subjects = []
    for name, (config, checkpoint) in zip(names, pairs, strict=True):
        cfg = load_config(config, args.cfg_options)
        if device == 'cpu':
            adapt_to_cpu(cfg)
        subjects.append(Subject.load(cfg, find_checkpoint(checkpoint), name, device, args.trust))
    return subjects


def main(run) -> None:
    """Run a tool as all of ours end."""
    from mmrobust.utils.cli import run as run_tool

    sys.exit(run_tool(run))
