"""Results as figures: one model over the severities, several models over the types."""
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmrobust.utils.figures import COLOURS, GREY, MARKERS, new_figure, save_figure

from .protocols import CLEAN
from .report import headline, layout, value_label


def _readable(name: str) -> str:
    return name.replace('_', ' ')


def plot_results(results: Mapping[str, Any], path: str | Path) -> None:
    """Draw one model: a panel per heading, a line per type, the clean value dashed.

    Where cells are no severities of one another, bars.

    Args:
        results (Mapping): Content of a results file with at least one finished cell.
        path (str | Path): The picture to write.
    """
    if not any(own for names in layout(results).values() for own in names.values()):
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
            if points:
                axis.plot(*zip(*points, strict=True), color=COLOURS[i % len(COLOURS)],
                          marker=MARKERS[i % len(MARKERS)], markersize=4, linewidth=1.3,
                          label=_readable(name))
        axis.set_title(heading, fontsize=9)
        axis.set_xlabel('severity', fontsize=8)
        axis.set_xticks(range(1, 6))
        axis.set_xlim(0.8, 5.2)
        axis.tick_params(labelsize=8)
        axis.legend(fontsize=6.5, frameon=False, loc='upper center',
                    bbox_to_anchor=(0.5, -0.2), ncols=2, columnspacing=1, handlelength=1.6)
    axes[0, 0].set_ylabel(metric, fontsize=8)
    figure.suptitle(f'{results["model"]} on {results["benchmark"]}\n{headline(results)}',
                    fontsize=9)
    save_figure(figure, path)


def plot_comparison(models: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Draw several models: bars per type, and below them the differences to the first.

    Args:
        models (Sequence[Mapping]): Contents of results files of one benchmark.
        path (str | Path): The picture to write.
    """
    first, *others = models
    names = [name for group in layout(first).values() for name in group]
    if first['summary'].get('P') is not None:
        names = [CLEAN, *names]
    panels = 2 if others else 1
    figure, axes = new_figure(max(4.0, 0.5 * len(names) + 1.5), 2.2 * panels + 1, rows=panels,
                           sharex=True)

    def value(model: Mapping[str, Any], name: str) -> float | None:
        summary = model['summary']
        return summary.get('P') if name == CLEAN else summary['types'].get(name)

    def bars(axis: Any, members: Sequence[Mapping[str, Any]], offset: int, base: Any) -> None:
        width = 0.8 / len(members)
        for i, model in enumerate(members):
            known = [(x, value(model, name), base and value(base, name))
                     for x, name in enumerate(names)]
            known = [(x, v - (b or 0)) for x, v, b in known
                     if v is not None and (base is None or b is not None)]
            axis.bar([x + (i + 0.5) * width - 0.4 for x, _ in known], [v for _, v in known],
                     width, color=COLOURS[(i + offset) % len(COLOURS)], label=model['model'])
        axis.tick_params(labelsize=8)

    bars(axes[0, 0], models, 0, None)
    axes[0, 0].set_ylabel(value_label(first) or 'value', fontsize=8)
    axes[0, 0].set_title(first['benchmark'], fontsize=9)
    if others:
        axes[0, 0].legend(fontsize=7, frameon=False, loc='lower left',
                          bbox_to_anchor=(0, 1.08), ncols=3)
        bars(axes[1, 0], others, 1, first)
        axes[1, 0].axhline(0, color=GREY, linewidth=0.8)
        axes[1, 0].set_ylabel(f'difference to\n{first["model"]}', fontsize=8)
    axes[-1, 0].set_xticks(range(len(names)), map(_readable, names), rotation=45, ha='right',
                           fontsize=7)
    save_figure(figure, path)
