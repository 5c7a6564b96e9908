"""Protocols as data. A new benchmark registers its protocol in a module that is imported here."""
from collections.abc import Iterable, Sequence
from typing import Any

from mmrobust.corruptions import NAMES

from . import adverse_conditions, attacks, image_shifts
from .base import CLEAN, PROTOCOLS, Cell, Protocol, register_protocol, unknown
from .corruption import expand_types, register_types

__all__ = ['CLEAN', 'PROTOCOLS', 'Cell', 'Protocol', 'adverse_conditions', 'attacks',
           'get_protocol', 'image_shifts', 'register_protocol']


def get_protocol(name: str, corruptions: str | Iterable[str] | None = None,
                 severities: str | int | Sequence[int] | None = None, **options: Any) -> Protocol:
    """A protocol by name.

    Args:
        name (str): A registered protocol, or corruption types and groups separated by commas.
        corruptions (str | Iterable[str], optional): Run only these cells: names, headings of the
            protocol's table, or groups (what the protocol has of them).
        severities (str | int | Sequence[int], optional): Run only these severities.
        **options: Options of the protocol, such as ``corrupted_root``, ``seed``, ``data_root``.

    Raises:
        ValueError: If a name, a severity or an option is unknown.
    """
    if name not in PROTOCOLS:
        try:
            register_types(name)
        except ValueError:
            if ',' in name:
                raise
            raise unknown('benchmark', name, [*PROTOCOLS, *NAMES]) from None
    protocol = PROTOCOLS[name](**options)
    if isinstance(corruptions, str):
        corruptions = [part.strip() for part in corruptions.split(',')]
    if corruptions is not None:
        corruptions = [type_ for part in corruptions for type_ in _members(protocol, part)]
    if severities is not None:
        severities = _integers(severities)
    if corruptions is not None or severities is not None:
        protocol = protocol.select(corruptions, severities)
    return protocol


def _members(protocol: Protocol, name: str) -> Sequence[str]:
    own = {cell.name for cell in protocol.cells}
    if name in own:
        return [name]
    types = protocol.headings.get(name) or expand_types(name)
    return [type_ for type_ in types if type_ in own] or types


def _integers(severities: str | int | Sequence[int]) -> list[int]:
    if isinstance(severities, str):
        severities = severities.split(',')
    elif isinstance(severities, int):
        severities = [severities]
    try:
        return [int(severity) for severity in severities]
    except ValueError:
        raise ValueError(f'severities {",".join(map(str, severities))}: give integers such as '
                         f'1,2,3.') from None
