"""Arguments that several commands share."""
import argparse
import os
from pathlib import Path
from typing import Any

from mmrobust.utils.options import Overrides

CONFIG = 'config file, or the name of one of ours'


def describe(doc: str) -> dict[str, Any]:
    """What a parser says of a command: the first paragraph of its docstring, then the rest."""
    summary, _, usage = doc.strip().partition('\n\n')
    return dict(description=summary, epilog=usage,
                formatter_class=argparse.RawDescriptionHelpFormatter)


def config_name(config: str) -> str:
    """The name of a config, as a path, a name or ``package::name``."""
    return Path(config.rpartition('::')[2]).stem


def add_overrides(parser: argparse.ArgumentParser, whose: str = 'of the config') -> None:
    parser.add_argument('--cfg-options', nargs='+', action=Overrides, metavar='KEY=VALUE',
                        help=f'overrides {whose}, e.g. train_dataloader.batch_size=2')


def add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--trust', action='store_true',
                        help='let checkpoints run code of their own when they are loaded')


def add_selection(parser: argparse.ArgumentParser) -> None:
    """A part of a benchmark."""
    parser.add_argument('--corruptions', nargs='+', metavar='NAME',
                        help='only these corruptions of the benchmark')
    parser.add_argument('--severities', nargs='+', type=int, metavar='N',
                        help='only these severities (1 to 5)')


def add_launcher(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'],
                        default='none', help='how processes are started (default: none)')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0,
                        help=argparse.SUPPRESS)


def set_launcher(cfg: Any, args: argparse.Namespace) -> None:
    """Let a config run in the processes, and write to the work dir, that the arguments name.

    Raises:
        ValueError: If ``--cfg-options`` names a launcher, which starts no processes.
    """
    if 'launcher' in (args.cfg_options or {}):
        raise ValueError(f'--cfg-options launcher={args.cfg_options["launcher"]} starts no '
                         'processes: use --launcher')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(
        Path('work_dirs', config_name(args.config)))


def add_models(parser: argparse.ArgumentParser, images: int | None = None, out: bool = True
               ) -> None:
    """Models, output unless ``out`` is false, and, where ``images`` is a number, their choice."""
    parser.add_argument('models', nargs='+', metavar='CONFIG CHECKPOINT',
                        help='a config and its checkpoint (a file, or a work dir for its last '
                        'one), for each model')
    parser.add_argument('--names', nargs='+', help='what to call the models')
    if out:
        parser.add_argument('--out', help='folder of the results '
                            '(default: work_dirs/NAME_OF_FIRST_CONFIG/analysis)')
    parser.add_argument('--device', help='default: cuda where there is one, else cpu')
    add_overrides(parser, 'of all configs')
    add_trust(parser)
    if images is not None:
        parser.add_argument('--images', type=int, default=images, metavar='N',
                            help=f'how many images of the test data (default: {images})')
        parser.add_argument('--seed', type=int, default=0, help='which ones (default: 0)')


def add_condition(parser: argparse.ArgumentParser, default: str | None, several: bool = False
                  ) -> None:
    """Arguments for what happens to the images: a corruption, hidden patches, or both.

    Args:
        parser (argparse.ArgumentParser): Gets the arguments.
        default (str, optional): Corruption if neither is given. Defaults to clean images.
        several (bool): Whether several corruptions may be named.
    """
    parser.add_argument('--corruption', metavar='NAME', nargs='+' if several else None,
                        help=f'default: {default or "clean"}, unless patches are occluded')
    parser.add_argument('--severity', type=int, default=3, choices=range(1, 6),
                        help='default: 3')
    parser.add_argument('--family', choices=('imagenet', 'cifar'), default='imagenet',
                        help='severity table; cifar is for 32 x 32 pixels (default: imagenet)')
    parser.add_argument('--occlude', type=float, metavar='RATIO',
                        help='hide this share of the patches, such as 0.1 (of the corrupted '
                        'image, if a corruption is named too)')
    parser.add_argument('--patch-size', type=int, default=16, metavar='PIXELS',
                        help='side of a patch (default: 16; 4 for 32 x 32 pixels)')
    parser.add_argument('--fill', choices=('noise', 'drop'), default='noise',
                        help='what hides a patch: noise, or the mean colour (default: noise)')
    parser.add_argument('--mask-seed', type=int, default=0, metavar='N',
                        help='draws other patches and other noise (default: 0)')
    parser.add_argument('--chosen-by', metavar='CHECKPOINT',
                        help='let the corruption model of this checkpoint choose the patches, or '
                        "'model' for that of each model")
    parser.set_defaults(default_corruption=default)


def conditions(args: argparse.Namespace) -> list:
    """The conditions that the arguments name, checked; a clean one if none.

    Raises:
        ValueError: If somebody is to choose patches, but how many is not said, or a condition is
            none.
    """
    from mmrobust.analysis.conditions import Condition
    from mmrobust.checkpoints import find_checkpoint

    if args.chosen_by and args.occlude is None:
        raise ValueError(f'--chosen-by {args.chosen_by} chooses patches to occlude: say what share '
                         'of them, such as --occlude 0.1')
    if args.occlude is not None and not 0 <= args.occlude < 1:
        raise ValueError(f'--occlude {args.occlude:g} is outside [0, 1): it is the share of the '
                         'patches to hide, such as 0.1')
    if args.chosen_by not in (None, 'model'):
        args.chosen_by = find_checkpoint(args.chosen_by)
    names = args.corruption
    if names is None and args.occlude is None:
        names = args.default_corruption
    found = [Condition(name, args.severity, args.mask_seed, args.family, args.occlude,
                       args.patch_size, args.fill, args.chosen_by)
             for name in (names if isinstance(names, list) else [names])]
    for condition in found:
        condition.check()
    return found


def add_heads(parser: argparse.ArgumentParser, single: bool = False) -> None:
    """``--heads``: their mean, each of them, or (``single``) one by its number."""
    def heads(text: str) -> int | str | None:
        if single and text.isdigit():
            return int(text)
        if text not in ('mean', 'each'):
            raise argparse.ArgumentTypeError(
                f"'{text}': choose mean or each" + (', or the number of a head' * single))
        return text

    parser.add_argument('--heads', type=heads, default='mean', metavar='WHICH',
                        help='mean: maps averaged over heads (default); each: every head by itself'
                        + ('; or the number of one' * single))


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
    from mmrobust.apis.checks import require_parts
    from mmrobust.apis.config import adapt_to_cpu, load_config
    from mmrobust.checkpoints import find_checkpoint
    from mmrobust.utils.mistakes import reading

    if len(args.models) % 2:
        raise ValueError(f'{len(args.models)} arguments for the models: give a config and a '
                         'checkpoint for each')
    pairs = list(zip(args.models[::2], args.models[1::2], strict=True))
    names = args.names or [config_name(config) for config, _ in pairs]
    if len(names) != len(pairs):
        raise ValueError(f'{len(names)} names for {len(pairs)} models: give one for each')
    if len(set(names)) < len(names):
        raise ValueError(f'the names {", ".join(names)} are not different: give --names')
    args.out = getattr(args, 'out', None) or str(
        Path('work_dirs', config_name(pairs[0][0]), 'analysis'))
    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    with reading(f'--device {device}', 'name one that this machine has, such as cpu'):
        torch.empty(1, device=device).cpu()
    subjects = []
    for name, (config, checkpoint) in zip(names, pairs, strict=True):
        cfg = load_config(config, args.cfg_options)
        require_parts(cfg, 'model')
        if device == 'cpu':
            adapt_to_cpu(cfg)
        with reading(f"the model of the config '{config}'"):
            subjects.append(
                Subject.load(cfg, find_checkpoint(checkpoint), name, device, args.trust))
    return subjects
