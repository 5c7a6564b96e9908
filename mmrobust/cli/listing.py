"""List what there is: configs, models, benchmarks or corruptions."""
import argparse
from collections.abc import Iterable

from mmrobust.utils.tables import format_table

NEEDS_HOSTS = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('what', choices=sorted(LISTS))
    parser.add_argument('containing', nargs='?', default='', metavar='TEXT',
                        help='only names that contain this')


def run(args: argparse.Namespace) -> None:
    rows = [row for row in LISTS[args.what]() if args.containing in row[0]]
    if not rows:
        raise ValueError(f"no {args.what} with '{args.containing}' in their name: `mmrobust list "
                         f'{args.what}` shows all')
    print(format_table(rows))


def configs() -> Iterable[tuple[str, str]]:
    """Our configs, with the model and data that their names tell."""
    from mmrobust.utils.shipped import config_names

    return [(name, '') for name in config_names()]


def models() -> Iterable[tuple[str, str]]:
    """The published models that our configs describe, and where their weights are."""
    from mmrobust.utils.shipped import published

    for model in published():
        yield model['Name'], model.get('Weights', 'see the repository of '
                                       f'{model["In Collection"]} in {model["File"]}')


def benchmarks() -> Iterable[tuple[str, str]]:
    """The protocols of the evaluation, and the first sentence of each."""
    from mmrobust.utils.hosts import check_environment
    check_environment()
    from mmrobust.evaluation.protocols import PROTOCOLS

    for name, build in PROTOCOLS.items():
        yield name, (build.__doc__ or '').strip().partition('\n')[0]


def corruptions() -> Iterable[tuple[str, str]]:
    """The corruption types, and the groups of them."""
    from mmrobust.corruptions.severities import GROUPS, NAMES

    yield from ((name, '') for name in NAMES)
    yield from ((name, 'group: ' + ', '.join(group)) for name, group in GROUPS.items())


LISTS = {function.__name__: function for function in (configs, models, benchmarks, corruptions)}
