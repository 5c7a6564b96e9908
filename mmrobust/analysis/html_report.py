"""Everything that was measured of one or several models, in one page that stands alone."""
import csv
import io
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from statistics import fmean
from typing import Any

import cv2
from matplotlib.figure import Figure
from tqdm import tqdm

from mmrobust.utils.figures import COLOURS, GREY, SIZES, new_figure, readable_metric
from mmrobust.utils.files import write_text_atomically
from mmrobust.utils.results_classes import confidence_rows, measure_sentences
from mmrobust.utils.results_file import NoResultsFileError, load_results, other_conditions

from .explorer import explorer
from .measures import class_heat_map, reliability_diagram
from .page import figure, page, table

ANALYSES = {
    'attention_maps': 'Attention maps',
    'attention_stability': 'Stability of attention',
    'mask_stability': 'Attention under many masks of one image',
    'head_diversity': 'Diversity of heads and concentration',
    'confidence': 'Confidence of the true class',
    'tap_weights': 'What token-aware average pooling chose',
    'segmentation_comparison': 'Segmentations',
    'complexity': 'Cost',
    'ablation': 'Ablation',
}
"""Names of the files of our analyses (``NAME.csv`` beside ``NAME.png``) to headings."""
GROUPS = ('model', 'condition', 'layer', 'branch')
HIDDEN = ('image', 'head', 'position', 'mask_seed')
LONGEST_TABLE = 40
PICTURE_WIDTH = 640


def write_report(work_dirs: Sequence[str | Path], out: str | Path,
                 names: Sequence[str] | None = None, pictures: int = 6,
                 title: str = 'Robustness report') -> str:
    """Gather benchmark results, analyses and pictures of predictions into one HTML file.

    Args:
        work_dirs (Sequence[str | Path]): Folders, searched to any depth for ``results.json`` of
            benchmarks, files of our analyses, and pictures of predictions.
        out (str | Path): The file.
        names (Sequence[str], optional): What to call the folders. Defaults to their own names.
        pictures (int): Most pictures of predictions of each folder.
        title (str): Of the page.

    Returns:
        str: What is in the report, in a sentence.

    Raises:
        FileNotFoundError: If a folder is missing, or there is nothing to report in any.
        ValueError: If the names are not as many as the folders, or a file is damaged.
    """
    folders = [Path(folder) for folder in work_dirs]
    names = list(names or [folder.resolve().name for folder in folders])
    if len(names) != len(folders):
        raise ValueError(f'{len(names)} names for {len(folders)} folders: give one for each')
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder '{folder}' to report on")
    passed_over: list[str] = []
    results = [result for name, folder in zip(names, folders, strict=True)
               for result in _benchmarks(folder, name, passed_over)]
    sections = list(_benchmark_sections(results))
    for stem, heading in ANALYSES.items():
        found = {path.resolve(): name for name, folder in zip(names, folders, strict=True)
                 for path in sorted(folder.rglob(f'{stem}.csv'))
                 if path.with_suffix('.png').exists()}
        parts = [figure(path.with_suffix('.png').read_bytes(), name) + table(_summarised(path))
                 for path, name in found.items()]
        if parts:
            sections.append((heading, ''.join(parts)))
    shown = [(name, _pictures(folder, pictures)) for name, folder in
             tqdm(list(zip(names, folders, strict=True)), desc='pictures', unit='folder')]
    if any(found for _, found in shown):
        sections.append(('Predictions', ''.join(
            f'<h3>{escape(name)}</h3><div class="row">{"".join(found)}</div>'
            for name, found in shown if found)))
    if not sections:
        if passed_over:
            raise ValueError(passed_over[0])
        raise FileNotFoundError(f'there is nothing to report in {", ".join(map(str, folders))}: '
                                'run a benchmark (tools/test.py --benchmark) or an analysis '
                                '(tools/analysis) first')
    write_text_atomically(out, page(title, sections))
    said = f'{out}: {", ".join(heading for heading, _ in sections)}'
    return '\nleft out: '.join([said, *passed_over])


def _benchmarks(folder: Path, name: str, passed_over: list[str]) -> Iterator[dict[str, Any]]:
    """Results files below a folder; where there are several of one benchmark, by folder.

    Args:
        folder (Path): Searched to any depth.
        name (str): What to call the model.
        passed_over (list[str]): Takes a sentence for each file of that name that is none of ours.
    """
    found: dict[str, list[tuple[Path, dict]]] = {}
    for path in sorted(folder.rglob('results.json')):
        try:
            content = load_results(path)
        except NoResultsFileError as error:  # perhaps somebody else's file of the same name
            passed_over.append(str(error))
            continue
        if not content['cells']:
            passed_over.append(f'{path} holds no finished cell: run the benchmark again, which '
                               'goes on with it.')
        elif content['summary']:
            found.setdefault(content['benchmark'], []).append((path, content))
    for same in found.values():
        for path, content in same:
            inner = path.relative_to(folder).parent
            yield {**content, 'model': name if len(same) == 1 else f'{name}/{inner}',
                   'picture': path.with_suffix('.png'), 'folder': folder}


def _benchmark_sections(results: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for benchmark in dict.fromkeys(result['benchmark'] for result in results):
        own = [result for result in results if result['benchmark'] == benchmark]
        other = {result['model']: other_conditions(own[0], result) for result in own}
        totals = [dict(model=result['model'], metric=result['metric'],
                       cells=f'{result["finished"]} of {result["expected"]}',
                       **{key: result['summary'].get(key) for key in _totals(own)})
                  for result in own]
        types = list(dict.fromkeys(name for result in own for name in _types(result)))
        rows = [{'type': name, **{result['model']: _types(result).get(name) for result in own}}
                for name in types]
        parts = [table(totals)]
        if types:
            parts += [figure(_png(_bars(own, types)), f'{benchmark}: mean of each type'),
                      table(rows)]
        parts += [figure(result['picture'].read_bytes(), result['model']) +
                  table([{'draws of': name, **spread}
                         for name, spread in result['summary']['draws'].items()])
                  for result in own
                  if 'draws' in result['summary'] and result['picture'].exists()]
        parts += ['<h3>Every cell</h3>', explorer(own)] * any(
            len(result['cells']) > 1 for result in own)
        parts += [part for result in own for part in _measures(result)]
        if any(result['finished'] < result['expected'] for result in own):
            parts.insert(1, '<p class="note">Incomplete: means of types are over the finished '
                            'cells; totals of the whole benchmark are left out.</p>')
        parts[1:1] = [f'<p class="note">Not comparable: {escape(model)} was measured under other '
                      f'conditions than {escape(own[0]["model"])}: {escape("; ".join(found))}.</p>'
                      for model, found in other.items() if found]
        yield benchmark, ''.join(parts)


def _measures(result: dict[str, Any]) -> Iterator[str]:
    """Single classes and confidence of one model."""
    if sentences := measure_sentences(result):
        yield (f'<h3>{escape(result["model"])}: single classes and confidence</h3>'
               f'<p>{escape("; ".join(sentences))}</p>')
    if drawing := class_heat_map(result):
        yield figure(_png(drawing), f'{result["model"]}: every class under every condition, mean '
                                    'over the severities')
    if rows := confidence_rows(result):
        yield figure(_png(reliability_diagram(result)),
                     f'{result["model"]}: accuracy of predictions by their confidence')
        yield table(rows)


def _totals(results: Sequence[dict[str, Any]]) -> list[str]:
    """Names of numbers in the summaries."""
    return list(dict.fromkeys(key for result in results for key, value in
                              result['summary'].items() if isinstance(value, float)))


def _types(result: dict[str, Any]) -> dict[str, float]:
    """Mean of each type, over its finished cells."""
    values = {name: value for name, value in result['summary'].get('types', {}).items()
              if value is not None}
    cells: dict[str, list[float]] = {}
    for cell in result['cells']:
        value = cell['metrics'].get(result['metric'])
        if value is not None and cell['name'] in result['summary'].get('types', {}):
            cells.setdefault(cell['name'], []).append(value)
    return {**{name: fmean(own) for name, own in cells.items()}, **values}


def _bars(results: Sequence[dict[str, Any]], types: Sequence[str]) -> Figure:
    drawing, ((axis,),) = new_figure(max(5., 0.5 * len(types) + 1.5), 3)
    width = 0.8 / len(results)
    for i, result in enumerate(results):
        values = _types(result)
        places = [x for x, name in enumerate(types) if name in values]
        colour = COLOURS[i % len(COLOURS)]
        axis.bar([x + (i + 0.5) * width - 0.4 for x in places],
                 [values[types[x]] for x in places], width, color=colour, label=result['model'])
        if result['summary'].get('P') is not None:
            axis.axhline(result['summary']['P'], color=colour, linewidth=0.9, linestyle='--')
    axis.plot([], [], color=GREY, linewidth=0.9, linestyle='--', label='clean')
    axis.set_xticks(range(len(types)), [name.replace('_', ' ') for name in types], rotation=45,
                    ha='right', fontsize=SIZES['tick'])
    label = results[0]['summary'].get('label', results[0]['metric'])
    axis.set_ylabel(readable_metric(label) or 'value', fontsize=SIZES['label'])
    drawing.legend(fontsize=SIZES['legend'], frameon=False, loc='outside upper center', ncols=3)
    return drawing


def _png(drawing: Figure) -> bytes:
    buffer = io.BytesIO()
    drawing.savefig(buffer)
    return buffer.getvalue()


def _number(text: str) -> float | str | None:
    try:
        return float(text) if text else None
    except ValueError:
        return text


def _summarised(path: Path) -> list[dict[str, Any]]:
    """The numbers of an analysis, averaged over images (and heads) where they are many."""
    with path.open(newline='', encoding='utf-8') as file:
        rows = [{key: _number(value) for key, value in row.items()}
                for row in csv.DictReader(file)]
    if not any(key in rows[0] for key in HIDDEN):
        return rows[:LONGEST_TABLE]
    keys = [key for key in GROUPS if key in rows[0]]
    for hidden in ((), ('layer',), ('layer', 'branch')):
        kept = [key for key in keys if key not in hidden]
        groups: dict[tuple, list[dict]] = {}
        for row in rows:
            # maps averaged over heads stand for a layer
            if row.get('head', 'mean') == 'mean' or path.stem == 'attention_maps':
                groups.setdefault(tuple(row[key] for key in kept), []).append(row)
        if len(groups) <= LONGEST_TABLE:
            break
    numbers = [key for key in rows[0] if key not in (*GROUPS, *HIDDEN)]
    return [{**dict(zip(kept, group, strict=True)),
             **{key: _mean([row[key] for row in own]) for key in numbers}}
            for group, own in list(groups.items())[:LONGEST_TABLE]]


def _mean(values: Sequence[Any]) -> float | None:
    known = [value for value in values if isinstance(value, float)]
    return fmean(known) if known else None


def _pictures(folder: Path, most: int) -> list[str]:
    """Some pictures of predictions, evenly spread over the folders that hold them."""
    own = {'results', 'comparison', *ANALYSES}
    paths = [path for path in sorted(folder.rglob('*.png')) if path.stem not in own]
    chosen = paths[::max(1, -(-len(paths) // most))][:most] if most else []
    shown = []
    for path in chosen:
        picture = cv2.imread(str(path))
        if picture is None:
            continue
        scale = min(1., PICTURE_WIDTH / picture.shape[1])
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        data = cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
        shown.append(figure(data, str(path.relative_to(folder).with_suffix('')), 'jpeg'))
    return shown
