"""The command ``mmrobust``, and the tools of a checkout: the same commands under other names.

Each command is a module with ``add_arguments(parser)`` and ``run(args)``; its docstring is the
help. Modules import what they work with in ``run``, so that help and completion are quick.
"""
import argparse
from importlib import import_module
from types import ModuleType

from mmrobust.utils.cli import run as run_guarded
from mmrobust.version import __version__

from .arguments import describe

# name -> module, in the order of the help
COMMANDS = {
    'train': 'train',
    'test': 'test',
    'benchmark': 'benchmark',
    'export': 'export',
    'compare': 'compare',
    'report': 'report',
    'app': 'app',
    'maps': 'attention_maps',
    'stability': 'attention_stability',
    'masks': 'mask_stability',
    'diversity': 'head_diversity',
    'confidence': 'confidence',
    'branches': 'tap_weights',
    'segmentations': 'segmentation_comparison',
    'complexity': 'complexity',
    'ablation': 'ablation',
    'check': 'check_data',
    'label-prior': 'label_prior',
    'corrupt': 'corrupt_dataset',
    'convert': 'convert_official',
    'camvid': 'camvid_to_cityscapes',
    'config': 'print_config',
    'list': 'listing',
    'doctor': 'doctor',
    'completion': 'completion',
}


def main() -> int:
    """Run ``mmrobust COMMAND ...`` as the command line says.

    Returns:
        int: Exit status, see :mod:`mmrobust.utils.cli`.
    """
    return run_guarded(lambda: _dispatch(build_parser()))


def run_tool(command: str) -> int:
    """Run one command under the name of the script that calls this.

    Args:
        command (str): A key of :data:`COMMANDS`.

    Returns:
        int: Exit status.
    """
    return run_guarded(lambda: _dispatch(_fill(argparse.ArgumentParser, _module(command))))


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``mmrobust`` with all its commands."""
    parser = argparse.ArgumentParser(
        prog='mmrobust', description='Train, test and break segmenters, classifiers and '
        'detectors of OpenMMLab.', epilog='A bare name such as fan_b_tap_adl_cityscapes stands '
        'for a config of ours wherever a config file does; `mmrobust doctor` says what works here. '
        'Exit statuses: 0 fine, 1 a mistake of input, 2 wrong usage, 70 a defect of ours, 130 '
        'interrupted, 141 nobody reads the output.')
    parser.add_argument('--version', action='version', version=f'mmrobust {__version__}')
    commands = parser.add_subparsers(metavar='COMMAND', required=True, title='commands')
    for name in COMMANDS:
        module = _module(name)
        help_text = (module.__doc__ or name).partition('\n')[0].rstrip('.').replace('%', '%%')
        _fill(lambda name=name, help_text=help_text, **kwargs:
              commands.add_parser(name, help=help_text, **kwargs), module)
    return parser


def _module(command: str) -> ModuleType:
    return import_module(f'mmrobust.cli.{COMMANDS[command]}')


def _fill(make, module: ModuleType) -> argparse.ArgumentParser:
    parser = make(**describe(module.__doc__ or ''))
    module.add_arguments(parser)
    # the guard takes it from the command line before any parser
    parser.add_argument('--debug', action='store_true', default=argparse.SUPPRESS,
                        help='show the traceback of a mistake instead of logging it')
    parser.set_defaults(command=module, parser=parser)
    return parser


def _dispatch(parser: argparse.ArgumentParser) -> None:
    args = parser.parse_args()
    module, command_parser = args.command, args.parser
    del args.command, args.parser
    for name, value in vars(args).items():
        if '' in (value, *(value if isinstance(value, list) else ())) \
                and value != command_parser.get_default(name):
            command_parser.error(f'{name.replace("_", "-")} is given, but empty: give it a value, '
                                 'or leave it out')
    if hasattr(module, 'check'):
        module.check(command_parser, args)
    if getattr(module, 'NEEDS_HOSTS', True):
        from mmrobust.utils.hosts import check_environment
        check_environment()
    module.run(args)

