"""The style that all our figures share."""
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from .files import write_atomically

# Okabe and Ito: eight colours that colour-blind readers tell apart. Black is kept for clean.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#F0E442')
MARKERS = 'osD^vPX'
GREY = '#666666'
SEQUENTIAL = 'viridis'  # for maps of one quantity; even in brightness
METRICS = {'top1': 'top-1 accuracy (%)', 'top5': 'top-5 accuracy (%)', 'mIoU': 'mIoU (%)',
           'top1_of_200': 'top-1 accuracy of 200 classes (%)',
           'mAcc': 'mean accuracy of classes (%)', 'aAcc': 'accuracy of pixels (%)',
           'flip/probability': 'flip probability (%)',
           'flip/rate': "flip rate (% of the baseline's)"}
SIZES = dict(title=9, label=8, tick=7, legend=7)


def readable_metric(name: str) -> str:
    """What a figure calls a metric, such as ``accuracy/top1``."""
    return METRICS.get(name, METRICS.get(name.rsplit('/', 1)[-1], name))


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1,
               **kwargs: Any) -> tuple[Figure, np.ndarray]:
    """A figure of so many inches with axes (rows, columns) for lines and bars."""
    figure = Figure(figsize=(width, height), dpi=200, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, **kwargs)
    for axis in axes.flat:
        axis.spines[['top', 'right']].set_visible(False)
        axis.grid(axis='y', linewidth=0.4, alpha=0.5)
        axis.set_axisbelow(True)
        axis.tick_params(labelsize=SIZES['tick'])
    return figure, axes


def show_image(axis: Axes, image: np.ndarray, title: str = '', **kwargs: Any) -> Any:
    """Draw an image (H, W) or (H, W, 3) without ticks; grid and frame give way to it."""
    axis.grid(False)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    if title:
        axis.set_title(title, fontsize=SIZES['title'])
    return axis.imshow(image, **kwargs)


def legend_below(figure: Figure, handles: Sequence[Any], columns: int, **kwargs: Any) -> None:
    """A legend below all axes, in at most so many columns and no more than the width holds."""
    def draw(ncols: int) -> Legend:
        return figure.legend(handles=handles, fontsize=SIZES['legend'], frameon=False,
                             loc='outside lower center', ncols=ncols, **kwargs)

    single = draw(1)
    # a column is as wide as its widest entry; two sizes of the font are between columns
    width = single.get_window_extent().width + SIZES['legend'] * figure.dpi / 72
    single.remove()
    columns = int(max(1, min(columns, len(handles), figure.bbox.width // width)))
    draw(ceil(len(handles) / ceil(len(handles) / columns)))  # as even as so many lines can be


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG and, beside it, as PDF with text that stays text."""
    from matplotlib import rc_context

    with rc_context({'pdf.fonttype': 42}):
        for suffix in ('.png', '.pdf'):
            # no date, so that the same numbers give the same file
            metadata = {'CreationDate': None} if suffix == '.pdf' else None
            write_atomically(Path(path).with_suffix(suffix), lambda temporary, metadata=metadata:
                             figure.savefig(temporary, metadata=metadata))
