"""How attention on one image depends on which patches of it are hidden."""
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from mmrobust.utils.figures import COLOURS, SIZES, legend_below, new_figure, save_figure, show_image
from mmrobust.utils.files import write_table

from .capture import attention_layers, capture_attention, select_layers
from .conditions import Condition
from .stability import BINS, HEADS
from .statistics import map_similarity
from .subject import ImageSource, Subject, readable

MASKS_AT_A_TIME = 16


def _counted(masks: int) -> str:
    return f'{masks} mask' + 's' * (masks != 1)


def measure_masks(subject: Subject, source: ImageSource, image: int | str, condition: Condition,
                  masks: int, layers: Sequence[str | int] | None = None, heads: str = 'mean'
                  ) -> Iterator[dict[str, Any]]:
    """Cosine between attention on the whole image and under each of many masks.

    The masks are those of the seeds ``condition.seed``, ``condition.seed + 1``, ... A corruption
    of the condition, the same in all of them, is part of what the whole image is.

    Yields:
        dict: ``model, image, condition, mask_seed, similarity`` (mean over layers).
    """
    chosen = select_layers(list(attention_layers(subject.model)), layers)
    loaded = (source.load_file if isinstance(image, str) else source.load)(image, condition)
    whole: dict[str, Any] = {}
    size = min(MASKS_AT_A_TIME, masks)
    for start in tqdm(range(0, masks, size), desc=subject.name, unit_scale=size, unit='mask'):
        seeds = range(condition.seed + start, condition.seed + min(start + size, masks))
        batch = [replace(condition, seed=seed).change(subject.model, loaded) for seed in seeds]
        if not whole or len(batch) < size:
            whole = _capture(subject, chosen, [loaded] * len(batch))
        captured = _capture(subject, chosen, batch)
        found = [map_similarity(whole[name], captured[name]) for name in chosen]
        cosine = torch.stack([single.mean(1) if heads == 'each' else mean
                              for single, mean in found]).mean(0)
        for seed, value in zip(seeds, cosine.tolist(), strict=True):
            yield dict(model=subject.name, image=source.name(image), condition=str(condition),
                       mask_seed=seed, similarity=value)


def _capture(subject: Subject, layers: Sequence[str], batch: Sequence[dict]) -> dict[str, Any]:
    with capture_attention(subject.model, layers) as captured, torch.inference_mode():
        subject.run(*batch)
    return captured


def mask_stability(subjects: Sequence[Subject], image: int | str, condition: Condition,
                   out: str | Path, masks: int = 1000, layers: Sequence[str | int] | None = None,
                   heads: str = 'mean') -> str:
    """Histogram over masks, into ``mask_stability.png``, ``.pdf`` and ``.csv``.

    Beside it the image and, of each model, the mask that changes its attention most.

    Args:
        subjects (Sequence[Subject]): The models.
        image (int | str): Position in the test data, or an image file.
        condition (Condition): Share and size of the patches.
        out (str | Path): Folder of the files.
        masks (int): How many.
        layers (Sequence[str | int], optional): Defaults to all.
        heads (str): Of maps averaged over heads (``'mean'``), or of single heads (``'each'``).

    Returns:
        str: A line of numbers for each model.

    Raises:
        ValueError: If nothing is occluded, or chosen instead of drawn, or no mask is wanted.
    """
    if condition.occlude is None or condition.chosen_by is not None:
        raise ValueError('many masks of one image are random ones: give --occlude 0.1, without '
                         '--chosen-by')
    if masks < 1:
        raise ValueError(f'{masks} masks: draw at least 1; the AFAT paper shows many')
    rows: list[dict[str, Any]] = []
    for subject in subjects:
        source = ImageSource(subject.cfg)
        if not isinstance(image, str):
            source.choose(0, indices=[image])
        rows += measure_masks(subject, source, image, condition, masks, layers, heads)
    out = Path(out)
    write_table(out / 'mask_stability.csv', rows)
    own = {subject.name: [row for row in rows if row['model'] == subject.name]
           for subject in subjects}
    worst = {name: min(found, key=lambda row: row['similarity']) for name, found in own.items()}
    pictures = [('image', source.display(source.load_file(image, condition) if isinstance(
        image, str) else source.load(image, condition)))]
    for subject in subjects:
        seen = replace(condition, seed=worst[subject.name]['mask_seed'])
        pictures.append((f'worst of {subject.name}\ncosine '
                         f'{worst[subject.name]["similarity"]:.4f}', ImageSource(
                             subject.cfg).display(subject.look(source, image, seen))))
    values = {name: [row['similarity'] for row in found] for name, found in own.items()}
    _draw(values, pictures, f'{readable(source.name(image))}: {condition}, {_counted(masks)}; '
          f'{HEADS[heads]}', out / 'mask_stability.png')
    return '\n'.join(f'{name}: cosine over {_counted(masks)}: median {median(found):.3f}, worst '
                     f'{min(found):.3f} (mask seed {worst[name]["mask_seed"]})'
                     for name, found in values.items())


def _draw(values: dict[str, list[float]], pictures: Sequence[tuple[str, np.ndarray]], title: str,
          path: Path) -> None:
    figure, (axes,) = new_figure(3.6 + 1.5 * len(pictures), 2.9, columns=1 + len(pictures),
                                 width_ratios=[3.6, *[1.5] * len(pictures)])
    histogram = axes[0]
    cosines = np.concatenate(list(values.values()))
    # a single mask has a bin of its own, not one beyond the largest cosine there can be
    edges = np.linspace(min(cosines.min(), cosines.max() - 1e-3), cosines.max(), BINS + 1)
    for i, (name, found) in enumerate(values.items()):
        colour = COLOURS[i % len(COLOURS)]
        histogram.hist(found, edges, color=colour, alpha=0.45, label=name)
        histogram.axvline(median(found), color=colour, linestyle='--', linewidth=1.2,
                          label=f'median {median(found):.4f}')
        histogram.axvline(min(found), color=colour, linestyle=':', linewidth=1.4,
                          label=f'worst {min(found):.4f}')
    histogram.set_xlabel('cosine of attention with and without mask,\nmean over layers',
                         fontsize=SIZES['label'])
    histogram.set_ylabel('masks', fontsize=SIZES['label'])
    histogram.yaxis.get_major_locator().set_params(integer=True)
    for axis, (name, picture) in zip(axes[1:], pictures, strict=True):
        show_image(axis, picture, name)
        axis.title.set_fontsize(SIZES['tick'])
    figure.get_layout_engine().set(h_pad=0.08)  # titles of two lines below it
    figure.suptitle(title, fontsize=SIZES['title'])
    legend_below(figure, histogram.get_legend_handles_labels()[0], len(values))
    save_figure(figure, path)
