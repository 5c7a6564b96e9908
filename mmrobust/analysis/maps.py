"""Figures of attention: whole matrices, or what single tokens look at; clean and corrupted."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from mmrobust.utils.figures import (
    COLOURS,
    SEQUENTIAL,
    SIZES,
    new_figure,
    save_figure,
    show_image,
)
from mmrobust.utils.files import write_atomically, write_table

from .attention import AttentionMaps
from .capture import attention_layers, capture_attention, select_layers
from .statistics import attention_statistics, map_similarity
from .subject import CLEAN, Condition, ImageSource, Subject

DRAWN_TOKENS = 256  # larger matrices are averaged down to so many rows for the picture
MOST_LAYERS = 6


def spread(names: Sequence[str], most: int = MOST_LAYERS) -> list[str]:
    """At most so many of the names, evenly spread, with the first and the last."""
    places = np.unique(np.linspace(0, len(names) - 1, min(most, len(names))).round().astype(int))
    return [names[i] for i in places]


def draw_attention_maps(subjects: Sequence[Subject], image: int | str, corrupted: Condition,
                        out: str | Path, layers: Sequence[str | int] | None = None,
                        head: int | None = None,
                        queries: Sequence[tuple[float, float]] = ()) -> str:
    """Draw attention on one image, clean above corrupted, a column for each layer.

    Writes ``attention_maps.png``, ``.pdf``, ``.csv`` (statistics of each panel) and ``.npz``
    (the values drawn). Panels of a column share their colour scale.

    Args:
        subjects (Sequence[Subject]): The models.
        image (int | str): Position in the test data, or an image file.
        corrupted (Condition): The corruption to compare with.
        out (str | Path): Folder of the files.
        layers (Sequence[str | int], optional): Defaults to at most six, evenly spread.
        head (int, optional): Defaults to the mean over heads.
        queries (Sequence[tuple[float, float]]): Places (from the top, from the left, as parts of
            the image) whose attention is laid over the image. By default the N x N matrices.

    Returns:
        str: The table of statistics.

    Raises:
        ValueError: If a model has no attention, or no such layer or head.
    """
    rows: list[dict[str, Any]] = []
    panels: list[dict[str, Any]] = []
    for subject in tqdm(subjects, desc='attention maps', unit='model'):
        source = ImageSource(subject.cfg)
        names = list(attention_layers(subject.model))
        chosen = spread(names) if layers is None else select_layers(names, layers)
        clean: dict[str, AttentionMaps] = {}
        for condition in (CLEAN, corrupted):
            data = (source.load_file(image, condition) if isinstance(image, str)
                    else source.load(source.choose(0, indices=[image])[0], condition))
            with capture_attention(subject.model, chosen) as captured, torch.inference_mode():
                subject.run(data)
            clean = clean or captured
            size = captured[chosen[0]].image_size
            picture = source.display(data, size)
            for query in queries or (None,):
                panels.append(dict(model=subject.name, condition=condition, query=query,
                                   picture=picture, names=chosen, positions=[
                                       names.index(name) for name in chosen],
                                   maps=[_drawn(captured[name], head, query) for name in chosen]))
            for name in chosen:
                heads, mean = map_similarity(clean[name], captured[name])
                rows.append(dict(
                    model=subject.name, condition=str(condition), layer=name,
                    head='mean' if head is None else head,
                    similarity_to_clean=float(mean if head is None else heads[0, head]),
                    **{key: float(value[0])
                       for key, value in attention_statistics(captured[name]).items()}))
    out = Path(out)
    _draw(panels, rows, out / 'attention_maps.png')
    write_table(out / 'attention_maps.csv', rows)
    arrays = {f'{p["model"]}/{p["condition"]}/{p["query"] or "matrix"}/{name}': values
              for p in panels for name, values in zip(p['names'], p['maps'], strict=True)}
    write_atomically(out / 'attention_maps.npz', lambda path: np.savez_compressed(path, **arrays))
    return '\n'.join(f'{r["model"]}, {r["condition"]}, {r["layer"]}: similarity to clean '
                     f'{r["similarity_to_clean"]:.3f}' for r in rows)


def _drawn(maps: AttentionMaps, head: int | None, query: tuple[float, float] | None
           ) -> np.ndarray:
    if query is not None:
        return maps.query_map(query, head=head).cpu().numpy()
    matrix = maps.matrix(head=head)
    if max(matrix.shape) > DRAWN_TOKENS:
        size = [min(side, DRAWN_TOKENS) for side in matrix.shape]
        matrix = F.adaptive_avg_pool2d(matrix[None, None], size)[0, 0]
    return matrix.cpu().numpy()


def _draw(panels: list[dict[str, Any]], rows: list[dict[str, Any]], path: Path) -> None:
    columns = max(len(panel['maps']) for panel in panels) + 1
    height, width = panels[0]['picture'].shape[:2]
    aspect = height / width if panels[0]['query'] is not None else max(1., height / width)
    figure, axes = new_figure(1.5 * columns + 0.4, (1.5 * aspect + 0.32) * len(panels) + 0.2,
                              len(panels), columns)
    similarity = {(r['model'], r['condition'], r['layer']): r['similarity_to_clean']
                  for r in rows}
    limits: dict[tuple, float] = {}
    for panel in panels:
        for name, values in zip(panel['names'], panel['maps'], strict=True):
            key = panel['model'], name
            limits[key] = max(limits.get(key, 0.), float(np.quantile(values, 0.995)))
    for line, panel in zip(axes, panels, strict=True):
        show_image(line[0], panel['picture'])
        label = f'{panel["model"]}\n{panel["condition"]}'
        line[0].set_ylabel(label, fontsize=SIZES['label'])
        if panel['query'] is not None:
            y, x = (part * side for part, side in zip(panel['query'], (height, width),
                                                      strict=True))
            line[0].plot(x, y, '+', color=COLOURS[1], markersize=9, markeredgewidth=2)
        for axis, name, position, values in zip(
                line[1:], panel['names'], panel['positions'], panel['maps'], strict=False):
            top = limits[panel['model'], name] or 1.
            title = f'layer {position}'
            if panel['condition'].name and panel['query'] is None:
                cosine = similarity[panel['model'], str(panel['condition']), name]
                title += f', cosine {cosine:.3f}'
            if panel['query'] is None:
                show_image(axis, values, title, cmap=SEQUENTIAL, vmin=0, vmax=top,
                           interpolation='nearest', aspect='auto')
            else:
                show_image(axis, _overlay(panel['picture'], values / top), title)
                axis.plot(x, y, '+', color=COLOURS[1], markersize=7, markeredgewidth=1.5)
            axis.title.set_fontsize(SIZES['label'])
            if panel['query'] is None and axis is line[1]:
                axis.set_ylabel('queries', fontsize=SIZES['tick'])
            if panel['query'] is None and panel is panels[-1]:
                axis.set_xlabel('keys', fontsize=SIZES['tick'])
        for axis in line[1 + len(panel['maps']):]:
            axis.set_visible(False)
    save_figure(figure, path)


def _overlay(picture: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Attention, 1 or more being the brightest, over the image in grey."""
    from matplotlib import colormaps

    size = picture.shape[1::-1]
    heat = cv2.resize(np.clip(values, 0, 1).astype(np.float32), size,
                      interpolation=cv2.INTER_NEAREST)
    colours = colormaps[SEQUENTIAL](heat)[..., :3] * 255
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None]
    return np.clip(0.35 * grey + 0.65 * colours, 0, 255).astype(np.uint8)
