"""How much attention changes when the image is corrupted."""
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from mmrobust.utils.figures import COLOURS, MARKERS, SIZES, new_figure, save_figure
from mmrobust.utils.files import write_table

from .capture import attention_layers, capture_attention, select_layers
from .statistics import map_similarity
from .subject import CLEAN, Condition, ImageSource, Subject

BINS = 40


def measure_stability(subject: Subject, source: ImageSource, images: Sequence[int],
                      conditions: Sequence[Condition],
                      layers: Sequence[str | int] | None = None) -> list[dict[str, Any]]:
    """Cosine between clean and corrupted attention, of every head and of the heads' mean.

    Returns:
        list[dict]: ``model, image, corruption, severity, layer, position, head, similarity``.
    """
    names = list(attention_layers(subject.model))
    chosen = select_layers(names, layers)
    rows = []
    for index in tqdm(images, desc=subject.name, unit='image'):
        runs = []
        for condition in (CLEAN, *conditions):
            data = source.load(index, condition)
            with capture_attention(subject.model, chosen) as captured, torch.inference_mode():
                subject.run(data)
            runs.append(captured)
        for condition, captured in zip(conditions, runs[1:], strict=True):
            for name in chosen:
                heads, mean = map_similarity(runs[0][name], captured[name])
                values = [*enumerate(heads[0].tolist()), ('mean', mean.item())]
                rows += [dict(model=subject.name, image=source.name(index),
                              corruption=condition.name, severity=condition.severity, layer=name,
                              position=names.index(name), head=head, similarity=value)
                         for head, value in values]
    return rows


def attention_stability(subjects: Sequence[Subject], conditions: Sequence[Condition],
                        out: str | Path, number: int = 50, seed: int = 0,
                        layers: Sequence[str | int] | None = None) -> str:
    """Compare the stability of models, into ``attention_stability.png``, ``.pdf`` and ``.csv``.

    Args:
        subjects (Sequence[Subject]): The models.
        conditions (Sequence[Condition]): The corruptions.
        out (str | Path): Folder of the files.
        number (int): How many images.
        seed (int): Which ones.
        layers (Sequence[str | int], optional): Defaults to all.

    Returns:
        str: A line of numbers for each model.
    """
    rows: list[dict[str, Any]] = []
    for subject in subjects:
        source = ImageSource(subject.cfg)
        rows += measure_stability(subject, source, source.choose(number, seed), conditions,
                                  layers)
    out = Path(out)
    write_table(out / 'attention_stability.csv', rows)
    models = [subject.name for subject in subjects]
    _draw(rows, models, conditions, out / 'attention_stability.png')
    return '\n'.join(
        f'{model}: cosine of clean and corrupted attention {fmean(means):.3f} (maps averaged '
        f'over heads), {fmean(heads):.3f} (single heads)'
        for model in models for means, heads in [_split(rows, model)])


def _split(rows: list[dict[str, Any]], model: str) -> tuple[list[float], list[float]]:
    own = [row for row in rows if row['model'] == model]
    return ([row['similarity'] for row in own if row['head'] == 'mean'],
            [row['similarity'] for row in own if row['head'] != 'mean'])


def _draw(rows: list[dict[str, Any]], models: Sequence[str], conditions: Sequence[Condition],
          path: Path) -> None:
    figure, ((histogram, by_layer),) = new_figure(7, 2.8, columns=2)
    values = {model: _per_image(rows, model) for model in models}
    edges = np.histogram_bin_edges(np.concatenate(list(values.values())), BINS)
    for i, model in enumerate(models):
        colour = COLOURS[i % len(COLOURS)]
        histogram.hist(values[model], edges, color=colour, alpha=0.45,
                       label=f'{model} (mean {values[model].mean():.3f})')
        histogram.hist(values[model], edges, color=colour, histtype='step', linewidth=1.2)
        histogram.axvline(values[model].mean(), color=colour, linewidth=1.2, linestyle='--')
        own = [row for row in rows if row['model'] == model and row['head'] == 'mean']
        layers = sorted({row['position'] for row in own})
        similarity = [[row['similarity'] for row in own if row['position'] == layer]
                      for layer in layers]
        mean, spread = np.mean(similarity, 1), np.std(similarity, 1)
        by_layer.plot(layers, mean, color=colour, marker=MARKERS[i % len(MARKERS)],
                      markersize=4, linewidth=1.3, label=model)
        by_layer.fill_between(layers, mean - spread, mean + spread, color=colour, alpha=0.15,
                              linewidth=0)
    histogram.set_xlabel('cosine of clean and corrupted attention,\nmean over layers',
                         fontsize=SIZES['label'])
    histogram.set_ylabel('images', fontsize=SIZES['label'])
    by_layer.set_xlabel('layer (band: standard deviation)', fontsize=SIZES['label'])
    by_layer.set_ylabel('cosine', fontsize=SIZES['label'])
    by_layer.xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle(', '.join(map(str, conditions)), fontsize=SIZES['title'])
    figure.legend(*histogram.get_legend_handles_labels(), fontsize=SIZES['legend'],
                  frameon=False, loc='outside lower center', ncols=min(3, len(models)))
    save_figure(figure, path)


def _per_image(rows: list[dict[str, Any]], model: str) -> np.ndarray:
    """Similarity of each image and corruption, averaged over layers."""
    found: dict[tuple, list[float]] = {}
    for row in rows:
        if row['model'] == model and row['head'] == 'mean':
            key = row['image'], row['corruption'], row['severity']
            found.setdefault(key, []).append(row['similarity'])
    return np.array([fmean(similarity) for similarity in found.values()])
