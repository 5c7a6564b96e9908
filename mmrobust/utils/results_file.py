"""Results files of benchmarks: read whole, unchanged and of this version, or one sentence.

What a file's numbers were measured on lies in its ``identity`` (made by
:mod:`mmrobust.evaluation.fingerprint`), by parts and as it was built; long things are digests,
which begin with ``#``.
"""
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

FORMAT = 2
CLEAN = 'clean'  # the name of the cell without a corruption or an attack
PART = 'mPC of a part'  # mean over types of which not all cells are finished
AGAIN = 'run the benchmark again with another output folder (out_dir), or remove the file first'

# what must be the same for a difference between models to be one of the models
SHARED = ('protocol', 'data', 'metric')
PLURAL = ('weights', 'data')


class NoResultsFileError(ValueError):
    """A file that is none of ours at all."""


def seal(content: Mapping[str, Any]) -> dict:
    """The content of a results file with the checksum by which a changed one is noticed.

    What tables call the model is left out of it.
    """
    content = {key: value for key, value in content.items() if key != 'checksum'}
    text = json.dumps({**content, 'model': None}, sort_keys=True)
    return dict(content, checksum=hashlib.blake2b(text.encode(), digest_size=16).hexdigest())


def load_results(path: str | Path) -> dict:
    """Read a results file.

    Args:
        path (str | Path): The file, ``.../results.json``.

    Raises:
        FileNotFoundError: If there is none.
        NoResultsFileError: If it is something else, such as a checkpoint.
        ValueError: If it is damaged, was changed by hand, or is another version's.
    """
    if os.path.isdir(path):
        raise NoResultsFileError(f'{path} is a folder: name the results.json that a benchmark '
                                 f'wrote into it.')
    if not os.path.exists(path):
        raise FileNotFoundError(f'no results file {path}: run the benchmark first.')
    if not os.path.isfile(path):  # opening a pipe would wait for its other end
        raise NoResultsFileError(f'{path} is no file: name the results.json of a benchmark.')
    with open(path, 'rb') as file:
        begins = file.read(64).lstrip()[:1]
    if not begins:
        raise ValueError(f'{path} is empty, its writing was cut short: {AGAIN}.')
    if begins not in b'{[':
        raise NoResultsFileError(f'{path} is no results file: name the results.json that '
                                 f'tools/test.py --benchmark writes.')
    try:
        content = json.loads(Path(path).read_text('utf-8'), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path} is damaged ({error}), cut short or edited: {AGAIN}.') from None
    if not isinstance(content, dict) or not {'format', 'benchmark', 'cells'} <= content.keys():
        raise NoResultsFileError(f'{path} is no results file of a benchmark: name the '
                                 f'results.json that tools/test.py --benchmark writes.')
    if content['format'] != FORMAT:
        raise ValueError(
            f'{path} is of another version of mmrobust (format {content["format"]!r} instead of '
            f'{FORMAT}), which kept less of what its numbers were measured on: {AGAIN}.')
    if problem := _problem(content):
        raise ValueError(f'{path} is damaged or was edited ({problem}): {AGAIN}.')
    if seal(content)['checksum'] != content.get('checksum'):
        raise ValueError(f'{path} was changed after it was written (its checksum is another): '
                         f'restore it, or {AGAIN}.')
    return content


def _no_constant(name: str) -> None:
    raise ValueError(f'{name} instead of a number')


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _problem(content: Mapping[str, Any]) -> str | None:
    """What is wrong with the structure of a results file, if anything is."""
    kinds = dict(benchmark=str, model=str, metric=(str, type(None)), finished=int, expected=int,
                 identity=dict, layout=dict, summary=dict, cells=list)
    for key, kind in kinds.items():
        if key not in content:
            return f'it lacks {key!r}'
        if not isinstance(content[key], kind) or isinstance(content[key], bool):
            return f'{key} is {content[key]!r}'
    for heading, names in content['layout'].items():
        if not isinstance(names, dict) or not all(
                isinstance(own, list) and all(type(s) is int for s in own)
                for own in names.values()):
            return f'layout of {heading!r} is {names!r}'
    for i, cell in enumerate(content['cells']):
        if not isinstance(cell, dict) or type(cell.get('severity')) is not int or not all(
                isinstance(cell.get(key), str) for key in ('name', 'heading')):
            return f'cell {i} is {cell!r}'[:200]
        for kind in ('metrics', 'measures'):
            metrics = cell.get(kind, None if kind == 'metrics' else {})
            if not isinstance(metrics, dict):
                return f'the {kind} of {cell["name"]} are {metrics!r}'
            for name, value in metrics.items():
                for number in value if isinstance(value, list) else [value]:
                    if number is not None and not _is_number(number):
                        return f'{name} of {cell["name"]} is {number!r} instead of a number'
    keys = [(cell['name'], cell['severity']) for cell in content['cells']]
    if len(set(keys)) < len(keys) or len(keys) != content['finished']:
        return f'{content["finished"]} finished cells, {len(set(keys))} of them there'
    summary = content['summary']
    if content['cells'] and content['metric'] and not isinstance(summary.get('types'), dict):
        return "the summary lacks 'types'"
    numbers = {key: value for key, value in summary.items()
               if key not in ('types', 'headings', 'corruption_errors', 'label', 'notes', 'draws')}
    for values in (numbers, *(summary.get(key) or {} for key in
                              ('types', 'headings', 'corruption_errors'))):
        for name, value in values.items():
            if value is not None and not _is_number(value):
                return f'{name} of the summary is {value!r} instead of a number'
    return None


def flatten(value: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    """Dotted paths and plain values of nested data; short lists of values stay lists."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from flatten(item, f'{path}.{key}' if path else str(key))
    elif isinstance(value, list) and any(isinstance(item, (Mapping, list)) for item in value):
        for i, item in enumerate(value):
            name = item.get('type') if isinstance(item, Mapping) else None
            yield from flatten(item, f'{path}.{name or i}' if path else str(name or i))
    else:
        yield path, value


def differences(other: Mapping[str, Any], own: Mapping[str, Any],
                parts: Iterable[str] | None = None, most: int = 3) -> list[str]:
    """How an identity differs from another, a sentence for each part.

    Args:
        other (Mapping): What it is compared to.
        own (Mapping): The identity in question.
        parts (Iterable[str], optional): Only these parts.
        most (int): Most settings to name of each part.
    """
    sentences = []
    for part in parts or dict.fromkeys([*own, *other]):
        if own.get(part) == other.get(part):
            continue
        before, now = (dict(flatten(side.get(part))) for side in (other, own))
        changed = [key for key in dict.fromkeys([*now, *before])
                   if now.get(key, '?') != before.get(key, '?')]
        named = [_difference(key, before, now) for key in changed]
        # a digest only repeats what a setting beside it says in words
        named = ([text for text in named if ' instead of ' in text] or named)
        more = f' and {len(named) - most} more' if len(named) > most else ''
        sentences.append(f'the {part} differ{"" if part in PLURAL else "s"}: '
                         f'{", ".join(named[:most])}{more}')
    return sentences


def _difference(key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    old, new = before.get(key, 'none'), now.get(key, 'none')
    if any(isinstance(value, str) and value.startswith('#') for value in (old, new)):
        return f'other {key}' if key != 'digest' else 'others'
    return f'{key}={new} instead of {old}'


def other_conditions(first: Mapping[str, Any], model: Mapping[str, Any]) -> list[str]:
    """What was not the same when two models were measured, in sentences; none if all was.

    Args:
        first, model (Mapping): Contents of results files of one benchmark.
    """
    # folders of the images may hold the same: what is in them is told by the source of each cell
    found = differences(first['identity'], model['identity'], SHARED)
    if model['metric'] != first['metric']:
        found.append(f'the metric shown is {model["metric"]} instead of {first["metric"]}')
    sources = [{(cell['name'], cell['severity']): cell.get('source') for cell in side['cells']}
               for side in (first, model)]
    other = [name for (name, severity), source in sources[1].items()
             if source != sources[0].get((name, severity), source)]
    if other:
        found.append(f'the images of {", ".join(dict.fromkeys(other))} were not the same pixels')
    return found
