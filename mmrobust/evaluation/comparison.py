"""Several models on one benchmark, side by side."""
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from mmrobust.utils.files import write_rows, write_table
from mmrobust.utils.results_file import PART, load_results, other_conditions

from .draws import draw_rows
from .intervals import LEVEL, differences
from .plots import plot_comparison
from .tables import TOTALS, comparison_table


def load_models(paths: Sequence[str | Path], names: Sequence[str] | None = None) -> list[dict]:
    """Read the results files of several models on one benchmark.

    Args:
        paths (Sequence[str | Path]): Results files; the first is what the others are compared to.
        names (Sequence[str], optional): What to call the models. Defaults to what the files say,
            with their folders where they say the same.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If they cannot be compared.
    """
    models = [load_results(path) for path in paths]
    first = models[0]
    for key in ('benchmark', 'metric'):
        for path, model in zip(paths, models, strict=True):
            if model[key] != first[key]:
                raise ValueError(f'{path} has the {key} {model[key]} and {paths[0]} has '
                                 f'{first[key]}: compare results of one {key} only.')
    for path, model in zip(paths, models, strict=True):
        if not model['cells']:
            raise ValueError(f'{path} has no finished cell: run the benchmark first.')
    conditions = [other_conditions(first, model) for model in models]
    if names is None:
        names = [model['model'] for model in models]
        if len(set(names)) < len(names):
            folders = [os.path.dirname(os.path.abspath(path)) for path in paths]
            common = os.path.commonpath(folders)
            names = [f'{name} ({os.path.relpath(folder, common)})'
                     for name, folder in zip(names, folders, strict=True)]
    if len(names) != len(models):
        raise ValueError(f'{len(names)} names for {len(models)} results files: '
                         f'give one name for each.')
    return [{**model, 'model': name, 'other_conditions': other, 'path': path}
            for model, name, other, path in zip(models, names, conditions, paths, strict=True)]


def compare(paths: Sequence[str | Path], out: str | Path | None = None,
            names: Sequence[str] | None = None) -> str:
    """Compare models, and write ``comparison.csv``, ``.png`` and ``per_type.csv`` where asked.

    Differences come with paired intervals over images (``differences.csv``) where the folders of
    the results hold what each image contributed.

    Where all of them ran a part only (``--severities 3``), means are over the cells that all have,
    and the title says which.

    ``per_type.csv`` is laid out as the papers' tables: a row for each model, a column for each
    type, with corruption errors where the benchmark has them and else the means.

    Args:
        paths, names: See :func:`load_models`.
        out (str | Path, optional): Folder of the files.

    Returns:
        str: The table.
    """
    loaded = load_models(paths, names)
    models = _on_common_cells(loaded)
    paired = differences([(model['path'], model) for model in loaded
                          if not model['other_conditions']])
    if out is not None:
        if paired:
            write_table(Path(out) / 'differences.csv', paired)
        _write_csv(models, Path(out) / 'comparison.csv')
        if 'draws' not in models[0]['summary']:
            write_table(Path(out) / 'per_type.csv', map(_per_type, models))
        plot_comparison(models, Path(out) / 'comparison.png')
    return '\n'.join([comparison_table(models), *_paired_sentences(paired), *(
        f'NOT COMPARABLE: {model["model"]} was measured under other conditions than '
        f'{models[0]["model"]}: {"; ".join(model["other_conditions"])}.'
        for model in models if model['other_conditions'])])


def _paired_sentences(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which differences are more than the choice of images explains."""
    sentences = []
    for model in dict.fromkeys(row['model'] for row in rows):
        texts = [f'{row["name"]} {row["difference"]:+.2f} [{row["low"]:+.2f}, {row["high"]:+.2f}]'
                 + ('' if row['real'] else ' (no difference shown)')
                 for row in rows if row['model'] == model]
        sentences.append(f'{model}, difference with its {LEVEL} % interval (paired bootstrap over '
                         f'images): {", ".join(texts)}')
    return sentences


def _on_common_cells(models: list[dict]) -> list[dict]:
    """The models by the cells that all of them have, where none ran the whole benchmark.

    A mean over some of the severities is a number of its own: the title names them, and the mean
    over types is not called mPC.
    """
    if any(model['finished'] == model['expected'] for model in models) \
            or 'headings' not in models[0]['summary']:
        return models
    values = [{(cell['name'], cell['severity']): cell['metrics'].get(model['metric'])
               for cell in model['cells'] if cell['severity']} for model in models]
    common = {key for key in values[0] if all(own.get(key) is not None for own in values)}
    types = {name: sorted(severity for key, severity in common if key == name)
             for name in models[0]['summary']['types']}
    types = {name: severities for name, severities in types.items() if severities}
    if not types:
        return models
    sets = {' '.join(map(str, severities)) for severities in types.values()}
    title = (f'{models[0]["benchmark"]}, {len(types)} of {len(models[0]["summary"]["types"])} '
             f'types, severities {" or ".join(sorted(sets))} only')
    partial = []
    for model, own in zip(models, values, strict=True):
        means = {name: fmean(own[name, severity] for severity in severities)
                 for name, severities in types.items()}
        # a corruption error is one of all severities
        summary = {key: value for key, value in model['summary'].items()
                   if key not in ('mPC_finished', 'corruption_errors')}
        partial.append({**model, 'benchmark': title, 'summary': {
            **summary, 'types': {**dict.fromkeys(summary['types']), **means},
            PART: fmean(means.values())}})
    return partial


def _write_csv(models: Sequence[Mapping[str, Any]], path: Path) -> None:
    if 'draws' in models[0]['summary']:
        write_table(path, draw_rows(models))
        return
    rows = [[name, *(model['summary']['types'].get(name) for model in models)]
            for name in models[0]['summary']['types']]
    if all('corruption_errors' in model['summary'] for model in models):
        rows += [[f'CE {name}', *(model['summary']['corruption_errors'].get(name)
                                  for model in models)]
                 for name in models[0]['summary']['corruption_errors']]
    rows += [[name, *(model['summary'].get(name) for model in models)] for name in TOTALS
             if any(model['summary'].get(name) is not None for model in models)]
    rows += [['not comparable', *('; '.join(model['other_conditions']) for model in models)]
             for _ in range(any(model['other_conditions'] for model in models))]
    write_rows(path, [['name', *(model['model'] for model in models)], *rows])


def _per_type(model: Mapping[str, Any]) -> dict[str, Any]:
    """One row of the papers' tables of types."""
    summary = model['summary']
    errors = summary.get('corruption_errors')
    return {'model': model['model'], 'values': 'corruption error' if errors else model['metric'],
            **{name: summary.get(name) for name in TOTALS if name in summary},
            **(errors or summary['types'])}
