"""Results as figures: one model over the severities, several over the types, and draws."""
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mmrobust.utils.figures import (
    COLOURS,
    GREY,
    MARKERS,
    SIZES,
    legend_below,
    new_figure,
    readable_metric,
    save_figure,
)

from .draws import values_of_draws
from .protocols import CLEAN
from .summaries import RAW_FLIP_PROBABILITY
from .tables import headline, layout, value_label

CHARACTERS = 12  # of a title, for an inch
LESS_IS_BETTER = ('mCE', 'mFR', RAW_FLIP_PROBABILITY)
BESIDE = 0.34  # from the middle of a box, where its star is, to the diamond


def _readable(name: str) -> str:
    return name.replace('_', ' ')


def _below_bars(name: str) -> str:
    """A name in short lines; an arrow where less is better, as in the papers' tables."""
    text = ': '.join(map(readable_metric, name.split(': '))).replace('_', ' ')
    return '\n'.join(wrap(text + ' \u2193' * text.endswith(LESS_IS_BETTER), 20))


def plot_results(results: Mapping[str, Any], path: str | Path) -> None:
    """Draw one model: a panel per heading, a line per type, the clean value dashed.

    A type without severities is a dotted line. Where no cell has any, bars; draws are boxes.

    Args:
        results (Mapping): Content of a results file with at least one finished cell.
        path (str | Path): The picture to write.
    """
    known = {severity for names in layout(results).values() for own in names.values()
             for severity in own}
    if not known or 'draws' in results['summary']:
        plot_comparison([results], path)
        return
    metric = results['metric']
    values = {(cell['name'], cell['severity']): cell['metrics'].get(metric)
              for cell in results['cells']}
    panels = results['layout']
    figure, axes = new_figure(2.6 * len(panels) + 0.6, 3.2, columns=len(panels), sharey=True)
    for axis, (heading, names) in zip(axes[0], panels.items(), strict=True):
        clean = values.get((CLEAN, 0))
        if clean is not None:
            axis.axhline(clean, color='black', linewidth=1, linestyle='--', label='clean')
        for i, (name, own) in enumerate(names.items()):
            points = [(s, values[name, s]) for s in own if values.get((name, s)) is not None]
            colour = COLOURS[i % len(COLOURS)]
            if points:
                axis.plot(*zip(*points, strict=True), color=colour,
                          marker=MARKERS[i % len(MARKERS)], markersize=4, linewidth=1.3,
                          label=_readable(name))
            elif values.get((name, 0)) is not None:
                axis.axhline(values[name, 0], color=colour, linewidth=1.3, linestyle=':',
                             label=_readable(name))
        axis.set_title(heading, fontsize=9)
        axis.set_xlabel('severity', fontsize=8)
        axis.set_xticks(sorted(known))
        axis.set_xlim(min(known) - 0.2, max(known) + 0.2)
        axis.tick_params(labelsize=8)
        axis.legend(fontsize=6.5, frameon=False, loc='upper center',
                    bbox_to_anchor=(0.5, -0.2), ncols=2, columnspacing=1, handlelength=1.6)
    _show_zero(axes)
    axes[0, 0].set_ylabel(readable_metric(metric), fontsize=8)
    figure.suptitle(_of_one_model(results, figure), fontsize=9)
    save_figure(figure, path)


def _show_zero(axes: np.ndarray) -> None:
    """Where all values are 0, axes of one scale would end a few hundredths beside it."""
    if not any(axis.dataLim.intervaly.any() for axis in axes.flat):
        axes.flat[0].set_ylim(-0.05, 1)


def _of_one_model(results: Mapping[str, Any], figure: Figure) -> str:
    """A title in lines that are no longer than the figure is wide."""
    return '\n'.join(line for text in (f'{results["model"]} on {results["benchmark"]}',
                                       headline(results))
                     for line in wrap(text, int(CHARACTERS * figure.get_figwidth())))


def plot_comparison(models: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Draw several models: bars per type, and below them the differences to the first.

    Draws, such as random masks, are boxes instead, see :func:`figure_of_draws`.

    Args:
        models (Sequence[Mapping]): Contents of results files of one benchmark.
        path (str | Path): The picture to write.
    """
    first, *others = models
    if 'draws' in first['summary']:
        save_figure(figure_of_draws(models), path)
        return
    others = [model for model in others if not model.get('other_conditions')]
    names = [name for group in layout(first).values() for name in group]
    if first['summary'].get('P') is not None:
        names = [CLEAN, *names]
    panels = 2 if others else 1
    figure, axes = new_figure(max(4.0, 0.5 * len(names) + 1.5), 2.2 * panels + 1, rows=panels,
                           sharex=True)

    def value(model: Mapping[str, Any], name: str) -> float | None:
        summary = model['summary']
        return summary.get('P') if name == CLEAN else summary['types'].get(name)

    def bars(axis: Any, members: Sequence[Mapping[str, Any]], base: Any) -> None:
        width = 0.8 / len(members)
        for i, model in enumerate(members):
            place = next(place for place, other in enumerate(models) if other is model)
            colour = COLOURS[place % len(COLOURS)]
            known = [(x, value(model, name), base and value(base, name))
                     for x, name in enumerate(names)]
            known = [(x, v - (b or 0)) for x, v, b in known
                     if v is not None and (base is None or b is not None)]
            places = [x + (i + 0.5) * width - 0.4 for x, _ in known]
            axis.bar(places, [v for _, v in known], width, color=colour,
                     label=model['model'] + ' (other conditions)' * bool(
                         model.get('other_conditions')))
            for at, (_, v) in zip(places, known, strict=True):
                if v == 0:  # unlike what is missing
                    axis.text(at, 0, '0', ha='center', va='bottom', fontsize=6.5, color=colour)
        axis.tick_params(labelsize=8)
        _show_zero(np.array(axis))

    bars(axes[0, 0], models, None)
    axes[0, 0].set_ylabel(readable_metric(value_label(first)) or 'value', fontsize=8)
    axes[0, 0].set_title(first['benchmark'] if len(models) > 1 else _of_one_model(
        first, figure), fontsize=9)
    if others:
        bars(axes[1, 0], others, first)
        axes[1, 0].axhline(0, color=GREY, linewidth=0.8)
        axes[1, 0].set_ylabel(f'difference to\n{first["model"]}', fontsize=8)
    axes[-1, 0].set_xticks(range(len(names)), map(_below_bars, names), rotation=45, ha='right',
                           fontsize=7)
    if len(models) > 1:
        legend_below(figure, axes[0, 0].get_legend_handles_labels()[0], 3)
    save_figure(figure, path)


def figure_of_draws(models: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws of every model as boxes, its clean value as a star, single cells as diamonds.

    Where draws differ by far less than any of them from the clean value, as 100 masks of many
    images do, the boxes alone stand on the right once more.

    Args:
        models (Sequence[Mapping]): Contents of results files of one benchmark.
    """
    draws = [values_of_draws(model) for model in models]
    kinds = list(dict.fromkeys(kind for own in draws for kind in own))
    boxed = [kind for kind in kinds if any(len(own.get(kind, ())) > 1 for own in draws)]
    columns = 2 if _is_narrow(models, draws) else 1
    width = max(2.4, 0.9 * len(models)) * columns + 0.8
    figure, axes = new_figure(width, 3.4, columns=columns)
    for i, axis in enumerate(axes[0]):
        for place, (model, own) in enumerate(zip(models, draws, strict=True)):
            for kind in kinds if i == 0 else boxed:
                _draws(axis, place, own.get(kind, ()), COLOURS[kinds.index(kind) % len(COLOURS)],
                       points=i == columns - 1)
            clean = model['summary']['P']
            if i == 0 and clean is not None:
                axis.plot(place, clean, marker='*', color='black', markersize=10, linestyle='',
                          markeredgecolor='white', markeredgewidth=0.6, zorder=4)
        axis.set_xticks(range(len(models)), [model['model'] for model in models],
                        fontsize=SIZES['tick'], **({} if len(models) == 1 else dict(
                            rotation=20, ha='right', rotation_mode='anchor')))
        axis.set_xlim(-0.6, len(models) - 0.4)
        axis.margins(y=0.08)
    axes[0, 0].set_ylabel(readable_metric(value_label(models[0])), fontsize=SIZES['label'])
    if columns > 1:
        axes[0, 0].set_title('all', fontsize=SIZES['label'])
        axes[0, 1].set_title(f'{", ".join(map(_readable, boxed))} alone', fontsize=SIZES['label'])
    handles = [Line2D([], [], marker='*', color='black', markersize=8, linestyle='', label='clean')]
    for kind, colour in zip(kinds, COLOURS, strict=False):
        number = max(len(own.get(kind, ())) for own in draws)
        label = _readable(kind) + (f' ({number} draws)' if number > 1 else '')
        handles.append(Patch(facecolor=colour, alpha=0.5, label=label) if kind in boxed else
                       Line2D([], [], marker='D', color=colour, linestyle='', markersize=5,
                              label=label))
    legend_below(figure, handles, columns)
    incomplete = any(model['finished'] < model['expected'] for model in models)
    figure.suptitle(models[0]['benchmark'] + (', INCOMPLETE' if incomplete else ''),
                    fontsize=SIZES['title'])
    return figure


def _is_narrow(models: Sequence[Mapping[str, Any]], draws: Sequence[Mapping[str, Sequence[float]]]
               ) -> bool:
    """Whether all boxes together take up too little of the figure to be read."""
    values = [value for own in draws for kind in own.values() for value in kind]
    boxes = [value for own in draws for kind in own.values() if len(kind) > 1 for value in kind]
    values += [model['summary']['P'] for model in models if model['summary']['P'] is not None]
    return bool(boxes) and max(boxes) - min(boxes) < 0.3 * (max(values) - min(values))


def _draws(axis: Axes, place: int, values: Sequence[float], colour: str, points: bool) -> None:
    """One box, or the diamond of a single value, and if wanted every draw as a point."""
    if len(values) == 1:
        axis.plot(place + BESIDE, values[0], marker='D', color=colour, markersize=6, linestyle='',
                  markeredgecolor='white', markeredgewidth=0.6, zorder=4)
    if len(values) < 2:
        return
    box, = axis.boxplot([values], positions=[place], widths=0.5, patch_artist=True,
                        manage_ticks=False, showfliers=not points,
                        medianprops=dict(color='black', linewidth=1.2),
                        flierprops=dict(marker='o', markersize=2.5, markeredgecolor=colour)
                        )['boxes']
    box.set(facecolor=colour, alpha=0.5)
    if points:
        # spread by their rank, the same in every run
        shift = 0.36 * (np.arange(len(values)) * 0.618 % 1 - 0.5)
        axis.plot(place + shift, values, linestyle='', marker='o', markersize=2, color=GREY,
                  alpha=0.7)
