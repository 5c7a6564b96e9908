"""Figures of what results say of single classes and of confidence."""
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mmrobust.utils.figures import COLOURS, GREY, SEQUENTIAL, SIZES, legend_below, new_figure
from mmrobust.utils.results_classes import class_table
from mmrobust.utils.results_file import CLEAN

MOST_CLASSES = 40


def class_heat_map(results: Mapping[str, Any]) -> Figure | None:
    """Classes down, conditions across; of more than 40 classes those with the lowest means.

    Args:
        results (Mapping): Content of a results file.

    Returns:
        Figure | None: None if nothing was measured by class.
    """
    if (found := class_table(results)) is None:
        return None
    values = np.array(found.values, dtype=float)  # None becomes NaN
    order = np.arange(len(values))
    if len(order) > MOST_CLASSES:
        others = values[:, [name != CLEAN for name in found.conditions]]
        means = np.nanmean(others if others.size else values, axis=1)
        order = np.sort(np.argsort(means, kind='stable')[:MOST_CLASSES])
    values = values[order]
    rows, columns = values.shape
    drawing, ((axis,),) = new_figure(max(3.2, 0.32 * columns + 1.8), max(1.6, 0.17 * rows + 1.2))
    axis.grid(False)
    image = axis.imshow(values, cmap=SEQUENTIAL, vmin=0, vmax=100, aspect='auto')
    for (y, x), value in np.ndenumerate(values):
        if np.isfinite(value):
            axis.text(x, y, f'{value:.0f}', ha='center', va='center', fontsize=5,
                      color='black' if value > 60 else 'white')
    axis.set_xticks(range(columns), [name.replace('_', ' ') for name in found.conditions],
                    rotation=45, ha='right', fontsize=SIZES['tick'])
    axis.set_yticks(range(rows), [found.classes[i] for i in order], fontsize=SIZES['tick'])
    if len(found.classes) > rows:
        axis.set_title(f'the {rows} of {len(found.classes)} classes with the lowest means',
                       fontsize=SIZES['title'])
    bar = drawing.colorbar(image, ax=axis, fraction=0.04, pad=0.02)
    bar.set_label(f'{found.measure}, per cent', fontsize=SIZES['label'])
    bar.ax.tick_params(labelsize=SIZES['tick'])
    return drawing


def reliability_diagram(results: Mapping[str, Any]) -> Figure:
    """Accuracy over confidence, clean and of all other cells together; below, how many there are.

    Args:
        results (Mapping): Content of a results file with measures of confidence.
    """
    drawing, axes = new_figure(3.6, 4.2, rows=2, sharex=True, height_ratios=(3, 1))
    upper, lower = axes[:, 0]
    upper.plot([0, 100], [0, 100], color=GREY, linewidth=0.8, linestyle='--', label='calibrated')
    for label, colour, wanted in ((CLEAN, 'black', True), ('all other cells', COLOURS[1], False)):
        cells = [cell['measures'] for cell in results['cells']
                 if 'reliability/count' in cell.get('measures', {})
                 and (cell['name'] == CLEAN) == wanted]
        if not cells:
            continue
        count = np.array([cell['reliability/count'] for cell in cells], dtype=float)
        total = count.sum(0)
        some = total > 0
        confidence, accuracy = (
            (np.nan_to_num(np.array([cell[f'reliability/{name}'] for cell in cells], dtype=float))
             * count).sum(0)[some] / total[some] for name in ('confidence', 'accuracy'))
        upper.plot(confidence, accuracy, marker='o', markersize=3, linewidth=1.2, color=colour,
                   label=label)
        lower.plot(confidence, 100 * total[some] / total.sum(), marker='o', markersize=3,
                   linewidth=1.2, color=colour)
    upper.set_ylabel('accuracy, per cent', fontsize=SIZES['label'])
    lower.set_ylabel('share,\nper cent', fontsize=SIZES['label'])
    lower.set_xlabel('confidence, per cent', fontsize=SIZES['label'])
    lower.set_ylim(bottom=0)
    legend_below(drawing, upper.get_lines(), 3)
    return drawing
