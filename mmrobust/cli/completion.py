"""Print the completion script of a shell, which the package shtab writes.

    %(prog)s bash > ~/.local/share/bash-completion/completions/mmrobust
    %(prog)s zsh > ~/.zfunc/_mmrobust
"""
import argparse

NEEDS_HOSTS = False
FILES = ('checkpoint', 'source', 'target', 'results', 'work_dirs', 'models', 'configs', 'config')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('shell', choices=('bash', 'zsh', 'tcsh'))


def run(args: argparse.Namespace) -> None:
    try:
        import shtab
    except ModuleNotFoundError:
        raise ImportError('shell completion needs shtab, which is not installed: `pip install '
                          'shtab`, or "mmrobust[completion]"') from None
    from . import build_parser

    parser = build_parser()
    for action in _actions(parser):
        if action.dest in FILES or (action.metavar or '') in ('DIR', 'FILE', 'CHECKPOINT'):
            action.complete = shtab.FILE
    print(shtab.complete(parser, shell=args.shell))


def _actions(parser: argparse.ArgumentParser):
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
        else:
            yield action
