"""How much attention changes when the image is corrupted or partly occluded."""
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from mmrobust.utils.figures import COLOURS, MARKERS, SIZES, legend_below, new_figure, save_figure
from mmrobust.utils.files import write_table

from .capture import attention_layers, capture_attention, select_layers
from .conditions import CLEAN, Condition, describe
from .running import RunningHistogram, RunningMean
from .statistics import map_similarity
from .subject import ImageSource, Subject

BINS = 40
HEADS = {'mean': 'maps averaged over heads', 'each': 'every head by itself'}


def measure_stability(subject: Subject, source: ImageSource, images: Sequence[int],
                      conditions: Sequence[Condition],
                      layers: Sequence[str | int] | None = None) -> Iterator[dict[str, Any]]:
    """Cosine between clean and changed attention, of every head and of the heads' mean.

    Yields:
        dict: ``model, image, condition, layer, position, head, similarity``; those of an image
        and condition follow one another.
    """
    names = list(attention_layers(subject.model))
    chosen = select_layers(names, layers)
    for index in tqdm(images, desc=subject.name, unit='image'):
        clean: dict[str, Any] = {}
        for condition in (CLEAN, *conditions):
            data = subject.look(source, index, condition)
            with capture_attention(subject.model, chosen) as captured, torch.inference_mode():
                subject.run(data)
            if not clean:
                clean = captured
                continue
            for name in chosen:
                heads, mean = map_similarity(clean[name], captured[name])
                values = [*enumerate(heads[0].tolist()), ('mean', mean.item())]
                for head, value in values:
                    yield dict(model=subject.name, image=source.name(index),
                               condition=str(condition), layer=name,
                               position=names.index(name), head=head, similarity=value)


class Summary:
    """What is kept of the rows of a model: by image, by layer, and in all.

    Args:
        heads (str): ``'mean'`` looks at the maps averaged over heads, ``'each'`` at the cosines
            of single heads, which are then averaged (figure 1 of the TAP & ADL paper).
    """

    def __init__(self, heads: str) -> None:
        self.heads = heads
        self.per_image = RunningHistogram()
        self.per_layer: dict[int, RunningMean] = {}
        self.total = {'mean': RunningMean(), 'each': RunningMean()}
        self._key: tuple = ()
        self._own: list[float] = []

    def add(self, row: dict[str, Any]) -> None:
        """Take a row of :func:`measure_stability` into account."""
        kind = 'mean' if row['head'] == 'mean' else 'each'
        self.total[kind].add(row['similarity'])
        if kind != self.heads:
            return
        key = row['image'], row['condition']
        if key != self._key:
            self.finish()
            self._key = key
        self._own.append(row['similarity'])
        self.per_layer.setdefault(row['position'], RunningMean()).add(row['similarity'])

    def finish(self) -> None:
        """The rows of an image are complete."""
        if self._own:
            self.per_image.add(fmean(self._own))
        self._own = []


def attention_stability(subjects: Sequence[Subject], conditions: Sequence[Condition],
                        out: str | Path, number: int = 50, seed: int = 0,
                        layers: Sequence[str | int] | None = None, heads: str = 'mean') -> str:
    """Compare the stability of models, into ``attention_stability.png``, ``.pdf`` and ``.csv``.

    Rows go to the file one by one and only sums stay, so that the number of images costs no
    memory.

    Args:
        subjects (Sequence[Subject]): The models.
        conditions (Sequence[Condition]): Corruptions and occlusions.
        out (str | Path): Folder of the files.
        number (int): How many images.
        seed (int): Which ones.
        layers (Sequence[str | int], optional): Defaults to all.
        heads (str): What the figure shows, see :class:`Summary`.

    Returns:
        str: A line of numbers for each model.

    Raises:
        ValueError: If a condition is clean, which is what it would be compared with, or heads
            is unknown.
    """
    if heads not in HEADS:
        raise ValueError(f"heads='{heads}': choose {' or '.join(HEADS)}")
    if any(condition.is_clean for condition in conditions):
        raise ValueError('stability compares clean images with corrupted or occluded ones: name '
                         'a corruption, or a share of patches to occlude')
    summaries = {subject.name: Summary(heads) for subject in subjects}

    def rows() -> Iterator[dict[str, Any]]:
        for subject in subjects:
            source = ImageSource(subject.cfg)
            for row in measure_stability(subject, source, source.choose(number, seed), conditions,
                                         layers):
                summaries[subject.name].add(row)
                yield row
            summaries[subject.name].finish()

    out = Path(out)
    write_table(out / 'attention_stability.csv', rows())
    _draw(summaries, conditions, heads, out / 'attention_stability.png')
    return '\n'.join(
        f'{model}: cosine of clean and changed attention {summary.total["mean"].mean:.3f} '
        f'(maps averaged over heads), {summary.total["each"].mean:.3f} (single heads), '
        f'{summary.per_image.count} images and conditions'
        for model, summary in summaries.items())


def _draw(summaries: dict[str, Summary], conditions: Sequence[Condition], heads: str, path: Path
          ) -> None:
    figure, ((histogram, by_layer),) = new_figure(7, 2.8, columns=2)
    low = min(summary.per_image.least for summary in summaries.values())
    high = max(summary.per_image.most for summary in summaries.values())
    for i, (model, summary) in enumerate(summaries.items()):
        colour = COLOURS[i % len(COLOURS)]
        mean = summary.per_image.mean
        counts, edges = summary.per_image.bars(low, high, BINS)
        histogram.stairs(counts, edges, color=colour, alpha=0.45, fill=True,
                         label=f'{model} (mean {mean:.3f})')
        histogram.stairs(counts, edges, color=colour, linewidth=1.2)
        histogram.axvline(mean, color=colour, linewidth=1.2, linestyle='--')
        layers = sorted(summary.per_layer)
        mean = np.array([summary.per_layer[layer].mean for layer in layers])
        std = np.array([summary.per_layer[layer].std for layer in layers])
        by_layer.plot(layers, mean, color=colour, marker=MARKERS[i % len(MARKERS)],
                      markersize=4, linewidth=1.3, label=model)
        by_layer.fill_between(layers, mean - std, np.minimum(mean + std, 1), color=colour,
                              alpha=0.15, linewidth=0)
    histogram.set_xlabel('cosine of clean and changed attention,\nmean over layers'
                         + (' and heads' if heads == 'each' else ''), fontsize=SIZES['label'])
    histogram.set_ylabel('images' if len(conditions) == 1 else 'images and conditions',
                         fontsize=SIZES['label'])
    histogram.yaxis.get_major_locator().set_params(integer=True)
    by_layer.set_xlabel('layer (band: standard deviation)', fontsize=SIZES['label'])
    by_layer.set_ylabel('cosine', fontsize=SIZES['label'])
    by_layer.xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle(f'{describe(conditions)}; {HEADS[heads]}', fontsize=SIZES['title'])
    legend_below(figure, histogram.get_legend_handles_labels()[0], 3)
    save_figure(figure, path)
