"""Results as tables."""
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmrobust.utils.results_classes import measure_sentences
from mmrobust.utils.results_file import PART
from mmrobust.utils.tables import Row, format_table

from .draws import STATISTICS, draw_rows, draw_sentences
from .protocols import CLEAN
from .sanity import budgets, warnings

TOTALS = ('P', 'mPC', PART, 'rPC', 'mean_error', 'mCE', 'mCE_without_noise')


def number(value: float | None, signed: bool = False) -> str:
    """Two decimals; a dash for what is missing."""
    return '-' if value is None else format(value, '+.2f' if signed else '.2f')


def headline(results: Mapping[str, Any]) -> str:
    """The numbers of the whole benchmark, or how much of it is missing, in a sentence."""
    summary = results['summary']
    numbers = [f'{name} {number(summary[name])}' for name in ('P', 'mPC')
               if summary.get(name) is not None]
    numbers += draw_sentences(summary) if 'draws' in summary else []
    if summary.get('rPC') is not None:
        numbers.append(f'rPC {100 * summary["rPC"]:.1f} %')
    numbers += [f'{name.replace("_", " ")} {number(value)}' for name, value in summary.items()
                if isinstance(value, float) and name not in ('P', 'mPC', 'rPC', 'mPC_finished')]
    text = '; '.join(filter(None, [', '.join(numbers), *summary.get('notes', ())]))
    if results['finished'] < results['expected']:
        text += (f'{"; " if text else ""}INCOMPLETE: {results["finished"]} of '
                 f'{results["expected"]} cells')
        if summary.get('mPC_finished') is not None:
            text += f', mean of the finished ones {number(summary["mPC_finished"])}'
    return text


def value_label(results: Mapping[str, Any]) -> str:
    """What the values are: the metric, unless the rows say it themselves."""
    return results['summary'].get('label', results['metric'])


def layout(results: Mapping[str, Any]) -> dict[str, dict[str, list[int]]]:
    """Heading to row names to severities, as the table lists them."""
    if 'headings' in results['summary']:
        return results['layout']
    return {'': dict.fromkeys(results['summary']['types'], [])}


def results_table(results: Mapping[str, Any]) -> str:
    """The table of one model: types under their headings, severities across.

    Args:
        results (Mapping): Content of a results file.
    """
    metric, summary = results['metric'], results['summary']
    if 'draws' in summary:
        return '\n'.join([draws_table([results]), *measure_sentences(results), *budgets(results)])
    values = {(cell['name'], cell['severity']): cell['metrics'].get(metric)
              for cell in results['cells']}
    rows_of = layout(results)
    severities = sorted({s for names in rows_of.values() for own in names.values() for s in own})
    errors = summary.get('corruption_errors')

    def row(heading: str, name: str, at: Sequence[str] = (), mean: str = '', error: str = ''
            ) -> list[str]:
        return [heading, name, *(at or [''] * len(severities)), mean, *([error] if errors else [])]

    rows: list[Row] = [row('', '', list(map(str, severities)),
                           'mean' if severities else value_label(results), 'CE')]
    if (CLEAN, 0) in values:
        rows += [None, row(CLEAN, '', mean=number(values[CLEAN, 0]))]
    for heading, names in rows_of.items():
        rows.append(None)
        for name, own in names.items():
            rows.append(row(
                heading if name == next(iter(names)) else '', name,
                [number(values.get((name, s))) if s in own else '' for s in severities],
                number(summary['types'].get(name)), number((errors or {}).get(name))))
        if heading and len(names) > 1:
            rows.append(row('', 'mean', mean=number(summary['headings'].get(heading))))
    title = f'{results["benchmark"]}, {value_label(results)}'.rstrip(', ')
    title += f': {results["model"]}'
    return '\n'.join(filter(None, [title, format_table(rows), headline(results),
                                   *measure_sentences(results), *budgets(results),
                                   *warnings(results)]))


def draws_table(models: Sequence[Mapping[str, Any]]) -> str:
    """Mean, spread and quantiles of every kind of draws, of one or several models.

    Args:
        models (Sequence[Mapping]): Contents of results files.
    """
    rows: list[Row] = [['', '', 'draws', *STATISTICS]]
    for own in draw_rows(models):
        if own['name'] == CLEAN:
            rows.append(None)
        rows.append([own['model'] if own['name'] == CLEAN else '', own['name'],
                     str(own['finished']), *(number(own[name]) for name in STATISTICS)])
    lines = [f'{model["model"]}: {headline(model)}' if len(models) > 1 else headline(model)
             for model in models]
    return '\n'.join([f'{models[0]["benchmark"]}, {value_label(models[0])}', format_table(rows),
                      *lines])


def _total(summary: Mapping[str, Any], name: str) -> float | None:
    value = summary.get(name)
    return 100 * value if name == 'rPC' and value is not None else value


def comparison_table(models: Sequence[Mapping[str, Any]]) -> str:
    """Several models on one benchmark; from the second on with the difference to the first.

    There is no difference to a model that was measured under other conditions.

    Args:
        models (Sequence[Mapping]): Contents of results files, see :mod:`.comparison`.
    """
    first, *others = models
    if 'draws' in first['summary']:
        return draws_table(models)

    def row(heading: str, name: str, get: Callable[[Mapping], float | None]) -> list[str]:
        base = get(first['summary'])
        cells = [heading, name, number(base)]
        for other in others:
            value = get(other['summary'])
            known = None not in (value, base) and not other.get('other_conditions')
            cells += [number(value), number(value - base if known else None, signed=True)]
        return cells

    rows: list[Row] = [['', '', first['model'],
                        *(text for other in others for text in (other['model'], 'diff.'))]]
    for heading, names in layout(first).items():
        rows.append(None)
        for name in names:
            rows.append(row(heading if name == next(iter(names)) else '', name,
                            lambda summary, name=name: summary['types'].get(name)))
    if all('corruption_errors' in model['summary'] for model in models):
        rows.append(None)
        for name in first['summary']['corruption_errors']:
            rows.append(row('' if rows[-1] else 'CE', name, lambda summary, name=name: summary[
                'corruption_errors'].get(name)))
    totals = [row('', name + ', %' * (name == 'rPC'), lambda summary, name=name: _total(
        summary, name)) for name in TOTALS
        if any(model['summary'].get(name) is not None for model in models)]
    if totals:
        rows += [None, *totals]
    title = f'{first["benchmark"]}, {value_label(first)}'.rstrip(', ')
    notes = [f'{model["model"]}: {headline(model)}' for model in models
             if model['finished'] < model['expected']]
    return '\n'.join([title, format_table(rows), *notes])
