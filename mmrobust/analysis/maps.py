"""Figures of attention: whole matrices, or what single tokens look at; under conditions."""
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from tqdm import tqdm

from mmrobust.utils.figures import SEQUENTIAL, SIZES, new_figure, save_figure, show_image
from mmrobust.utils.files import write_atomically, write_table

from .attention import AttentionMaps
from .capture import attention_layers, capture_attention, select_layers
from .conditions import CLEAN, Condition
from .statistics import attention_statistics, map_similarity
from .subject import ImageSource, Subject, readable

DRAWN_TOKENS = 256  # larger matrices are averaged down to so many rows for the picture
MOST_LAYERS = 6
QUERY_COLOUR = '#FF0000'


def spread(names: Sequence[str], most: int = MOST_LAYERS) -> list[str]:
    """At most so many of the names, evenly spread, with the first and the last."""
    places = np.unique(np.linspace(0, len(names) - 1, min(most, len(names))).round().astype(int))
    return [names[i] for i in places]


@dataclass(frozen=True)
class View:
    """A column of the figure: a layer, and one of its heads or their mean (None)."""
    layer: str
    position: int
    head: int | None

    def __str__(self) -> str:
        return f'layer {self.position}' + ('' if self.head is None else f', head {self.head}')


@dataclass
class Panel:
    """A line of the figure: an image under a condition, and what each view shows of it."""
    order: tuple[int, int]
    image: str
    title: str
    model: str
    condition: Condition
    query: tuple[float, float] | None
    picture: np.ndarray
    views: list[View]
    maps: list[np.ndarray]
    squares: list[tuple[float, float, float, float]]
    similarity: list[float]


def draw_attention_maps(subjects: Sequence[Subject], images: Sequence[int | str],
                        condition: Condition, out: str | Path,
                        layers: Sequence[str | int] | None = None,
                        heads: int | str | None = None,
                        queries: Sequence[tuple[float, float]] = ()) -> str:
    """Draw attention on images, clean above the condition, a column for each layer or head.

    Writes ``attention_maps.png``, ``.pdf``, ``.csv`` (statistics of each panel, with the names
    of the images) and ``.npz`` (the values drawn). Clean and not share their colour scale,
    whose end stands over the clean panel. The cosine over a panel is that of what it shows.

    Args:
        subjects (Sequence[Subject]): The models.
        images (Sequence[int | str]): Positions in the test data, or image files.
        condition (Condition): Corruption or occlusion to compare with; if clean, only that.
        out (str | Path): Folder of the files.
        layers (Sequence[str | int], optional): Defaults to at most six, evenly spread; with
            every head, to the last one.
        heads (int | str, optional): One head, or ``'each'`` side by side. Defaults to their mean.
        queries (Sequence[tuple[float, float]]): Places (from the top, from the left, as parts of
            the image) whose attention is laid over the image, the query's own square in red. By
            default the N x N matrices.

    Returns:
        str: The table of statistics.

    Raises:
        ValueError: If a model has no attention, or no such layer or head.
    """
    rows: list[dict[str, Any]] = []
    panels: list[Panel] = []
    for subject in tqdm(subjects, desc='attention maps', unit='model'):
        source = ImageSource(subject.cfg)
        names = list(attention_layers(subject.model))
        if layers is None:
            chosen = names[-1:] if heads == 'each' else spread(names)
        else:
            chosen = select_layers(names, layers)
        for place, image in enumerate(images):
            if not isinstance(image, str):
                source.choose(0, indices=[image])
            clean: dict[str, AttentionMaps] = {}
            seen_clean: dict[tuple[float, float], list[np.ndarray]] = {}
            for seen in dict.fromkeys((CLEAN, condition)):
                data = subject.look(source, image, seen)
                with capture_attention(subject.model, chosen) as captured, torch.inference_mode():
                    subject.run(data)
                clean = clean or captured
                views = [View(name, names.index(name), head) for name in chosen
                         for head in _heads(captured[name], heads)]
                own = list(_rows(views, clean, captured))
                rows += [dict(image=source.name(image), model=subject.name, condition=str(seen),
                              **row) for row in own]
                picture = source.display(data, captured[chosen[0]].image_size)
                for query in queries or (None,):
                    maps = [_drawn(captured[view.layer], view.head, query) for view in views]
                    similarity = [row['similarity_to_clean'] for row in own]
                    if query is not None:  # of what is shown, not of all queries
                        similarity = list(map(cosine, seen_clean.setdefault(query, maps), maps))
                    panels.append(Panel(
                        (place, len(panels)), source.name(image), source.title(image),
                        subject.name, seen, query, picture, views, maps,
                        [_square(captured[view.layer], query, picture) for view in views
                         if query is not None], similarity))
    panels.sort(key=lambda panel: panel.order)
    out = Path(out)
    _draw(panels, len(images) > 1, out / 'attention_maps.png')
    write_table(out / 'attention_maps.csv', rows)
    arrays = {_key(panel, view): values for panel in panels
              for view, values in zip(panel.views, panel.maps, strict=True)}
    write_atomically(out / 'attention_maps.npz', lambda path: np.savez_compressed(path, **arrays))
    return '\n'.join(f'{readable(r["image"])}, {r["model"]}, {r["condition"]}, {r["layer"]}, '
                     f'head {r["head"]}: similarity to clean {r["similarity_to_clean"]:.3f}'
                     for r in rows)


def _heads(maps: AttentionMaps, wanted: int | str | None) -> Sequence[int | None]:
    if wanted == 'each':
        return range(maps.shape[1])
    maps.check_head(wanted)
    return [wanted]


def _rows(views: Sequence[View], clean: dict[str, AttentionMaps],
          captured: dict[str, AttentionMaps]) -> Any:
    """Statistics of the layers and the similarity of every view."""
    found: dict[str, tuple] = {}
    for view in views:
        if view.layer not in found:
            maps = captured[view.layer]
            found[view.layer] = (*map_similarity(clean[view.layer], maps),
                                 {key: float(value[0])
                                  for key, value in attention_statistics(maps).items()})
        heads, mean, statistics = found[view.layer]
        yield dict(layer=view.layer, head='mean' if view.head is None else view.head,
                   similarity_to_clean=float(mean if view.head is None else heads[0, view.head]),
                   **statistics)


def _key(panel: Panel, view: View) -> str:
    """Name of an array in the .npz file."""
    head = '' if view.head is None else f'/head {view.head}'
    return (f'{readable(panel.image)}/{panel.model}/{panel.condition}/{panel.query or "matrix"}/'
            f'{view.layer}{head}')


def _drawn(maps: AttentionMaps, head: int | None, query: tuple[float, float] | None
           ) -> np.ndarray:
    if query is not None:
        return maps.query_map(query, head=head).cpu().numpy()
    matrix = maps.matrix(head=head)
    if max(matrix.shape) > DRAWN_TOKENS:
        size = [min(side, DRAWN_TOKENS) for side in matrix.shape]
        matrix = F.adaptive_avg_pool2d(matrix[None, None], size)[0, 0]
    return matrix.cpu().numpy()


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Of two maps of one shape."""
    return float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b)))


def _square(maps: AttentionMaps, query: tuple[float, float], picture: np.ndarray
            ) -> tuple[float, float, float, float]:
    """Left, top, width and height of the query's token in the picture."""
    (y, x), (rows, columns) = maps.query_place(query)
    height, width = picture.shape[0] / rows, picture.shape[1] / columns
    return x * width - 0.5, y * height - 0.5, width, height


def _draw(panels: Sequence[Panel], several: bool, path: Path) -> None:
    columns = max(len(panel.maps) for panel in panels) + 1
    height, width = panels[0].picture.shape[:2]
    overlaid = panels[0].query is not None
    aspect = height / width if overlaid else max(1., height / width)
    cell = 1.5 if columns < 9 else 1.1
    figure, axes = new_figure(cell * columns + 1.2, (cell * aspect + 0.32) * len(panels) + 0.2,
                              len(panels), columns)
    limits: dict[tuple, float] = {}
    for panel in panels:
        for view, values in zip(panel.views, panel.maps, strict=True):
            key = panel.model, panel.image, panel.query, view
            limits[key] = max(limits.get(key, 0.), float(np.quantile(values, 0.995)))
    for line, panel in zip(axes, panels, strict=True):
        show_image(line[0], panel.picture)
        if overlaid:
            _mark(line[0], panel.squares[0])
        label = [panel.model, str(panel.condition).replace(', ', '\n')]
        if several:
            label.insert(0, panel.title)
        # upright, as a row may be lower than its label is long
        line[0].set_ylabel('\n'.join(label), fontsize=SIZES['tick'], rotation=0, ha='right',
                           va='center')
        for i, (axis, view, values, cosine) in enumerate(zip(
                line[1:], panel.views, panel.maps, panel.similarity, strict=False)):
            top = limits[panel.model, panel.image, panel.query, view] or 1.
            title = f'{view}\n' + (f'colours to {top:.2g}' if panel.condition.is_clean
                                   else f'cosine {cosine:.3f}')
            if overlaid:
                show_image(axis, overlay(panel.picture, values / top), title)
                _mark(axis, panel.squares[i])
            else:
                show_image(axis, values, title, cmap=SEQUENTIAL, vmin=0, vmax=top,
                           interpolation='nearest', aspect='auto')
            axis.title.set_fontsize(SIZES['tick'])
            if not overlaid and i == 0:
                axis.set_ylabel('queries', fontsize=SIZES['tick'])
            if not overlaid and panel is panels[-1]:
                axis.set_xlabel('keys', fontsize=SIZES['tick'])
        for axis in line[1 + len(panel.maps):]:
            axis.set_visible(False)
    save_figure(figure, path)


def _mark(axis: Axes, square: tuple[float, float, float, float]) -> None:
    left, top, width, height = square
    axis.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=QUERY_COLOUR,
                             linewidth=1.4))


def overlay(picture: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Attention, 1 or more being the brightest, over the image in grey."""
    from matplotlib import colormaps

    size = picture.shape[1::-1]
    heat = cv2.resize(np.clip(values, 0, 1).astype(np.float32), size,
                      interpolation=cv2.INTER_NEAREST)
    colours = colormaps[SEQUENTIAL](heat)[..., :3] * 255
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None]
    return np.clip(0.35 * grey + 0.65 * colours, 0, 255).astype(np.uint8)
