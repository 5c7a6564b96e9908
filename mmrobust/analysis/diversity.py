"""How different the heads of a layer are, and how concentrated its attention is."""
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from mmrobust.utils.figures import COLOURS, MARKERS, SIZES, legend_below, new_figure, save_figure
from mmrobust.utils.files import write_table

from .capture import attention_layers, capture_attention, select_layers
from .conditions import CLEAN, Condition
from .running import RunningMean
from .statistics import STATISTICS, attention_statistics
from .subject import ImageSource, Subject

Means = dict[tuple[str, int | None, str], RunningMean]
"""(model, layer or None for all, statistic) to its mean over images."""


def measure_diversity(subject: Subject, source: ImageSource, images: Sequence[int],
                      condition: Condition = CLEAN,
                      layers: Sequence[str | int] | None = None) -> Iterator[dict[str, Any]]:
    """All statistics of attention, of every image and layer.

    Yields:
        dict: ``model, image, condition, layer, position`` and
        :data:`~.statistics.STATISTICS`.
    """
    names = list(attention_layers(subject.model))
    chosen = select_layers(names, layers)
    for index in tqdm(images, desc=subject.name, unit='image'):
        data = subject.look(source, index, condition)
        with capture_attention(subject.model, chosen) as captured, torch.inference_mode():
            subject.run(data)
        for name in chosen:
            found = attention_statistics(captured[name])
            yield dict(model=subject.name, image=source.name(index), condition=str(condition),
                       layer=name, position=names.index(name),
                       **{key: value.item() for key, value in found.items()})


def head_diversity(subjects: Sequence[Subject], out: str | Path, number: int = 50, seed: int = 0,
                   condition: Condition = CLEAN,
                   layers: Sequence[str | int] | None = None) -> str:
    """Compare models, into ``head_diversity.png``, ``.pdf`` and ``.csv``.

    Args:
        subjects (Sequence[Subject]): The models.
        out (str | Path): Folder of the files.
        number (int): How many images.
        seed (int): Which ones.
        condition (Condition): Clean or corrupted.
        layers (Sequence[str | int], optional): Defaults to all.

    Returns:
        str: A line of numbers for each model, means over images and layers.
    """
    means: Means = {}

    def rows() -> Iterator[dict[str, Any]]:
        for subject in subjects:
            source = ImageSource(subject.cfg)
            for row in measure_diversity(subject, source, source.choose(number, seed), condition,
                                         layers):
                for key in STATISTICS:
                    for position in (row['position'], None):
                        means.setdefault((subject.name, position, key), RunningMean()).add(
                            row[key])
                yield row

    out = Path(out)
    write_table(out / 'head_diversity.csv', rows())
    models = [subject.name for subject in subjects]
    _draw(means, models, condition, out / 'head_diversity.png')
    return '\n'.join(f'{model}: ' + ', '.join(
        f'{label} {means[model, None, key].mean:.3f}' for key, label in STATISTICS.items())
        for model in models)


def _draw(means: Means, models: Sequence[str], condition: Condition, path: Path) -> None:
    figure, axes = new_figure(7.2, 4.2, rows=2, columns=3, sharex=True)
    for axis, (key, label) in zip(axes.flat, STATISTICS.items(), strict=True):
        for i, model in enumerate(models):
            layers = sorted({layer for name, layer, _ in means
                             if name == model and layer is not None})
            axis.plot(layers, [means[model, layer, key].mean for layer in layers],
                      color=COLOURS[i % len(COLOURS)], marker=MARKERS[i % len(MARKERS)],
                      markersize=4, linewidth=1.3, clip_on=False,
                      label=f'{model} (cosine {means[model, None, "head_similarity"].mean:.2f})')
        axis.set_title(label, fontsize=SIZES['label'])
        axis.set_ylim(0, max(1.1 * axis.get_ylim()[1], 1e-3))
        axis.xaxis.get_major_locator().set_params(integer=True)
    for axis in axes[-1]:
        axis.set_xlabel('layer', fontsize=SIZES['label'])
    figure.suptitle(f'attention, images: {condition}', fontsize=SIZES['title'])
    legend_below(figure, axes[0, 0].get_legend_handles_labels()[0], 3)
    save_figure(figure, path)
