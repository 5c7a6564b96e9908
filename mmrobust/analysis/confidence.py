"""How sure models are of the true class of an image, clean and corrupted or partly occluded."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from tqdm import tqdm

from mmrobust.utils.figures import COLOURS, GREY, SIZES, new_figure, save_figure, show_image
from mmrobust.utils.files import write_table

from .conditions import CLEAN, Condition
from .segmentations import IGNORED
from .subject import ImageSource, Subject


def true_class_confidence(sample: Any) -> float:
    """Probability that a prediction gives the true class; of a segmentation, mean over pixels.

    Args:
        sample (Any): A data sample with prediction and label, of a classifier or a segmenter.

    Raises:
        ValueError: If it has no label, or several, or no scores.
    """
    if 'gt_sem_seg' in sample and 'seg_logits' in sample:
        logits = sample.seg_logits.data.float()  # (classes, H, W)
        truth = sample.gt_sem_seg.data.squeeze(0).long().to(logits.device)
        if len(logits) == 1:
            raise ValueError('confidence of the true class needs a score for each class; the '
                             'segmenter has a single one (binary)')
        known = truth != IGNORED
        if not known.any():
            raise ValueError('the label map of this image has no labelled pixel: choose others '
                             '(--indices)')
        return float(logits.softmax(0)[:, known].gather(0, truth[known][None]).mean())
    if 'gt_label' not in sample or 'pred_score' not in sample:
        raise ValueError('confidence of the true class needs labelled test data, and a '
                         'classifier or a segmenter that gives scores')
    if sample.gt_label.numel() != 1:
        raise ValueError(f'the image has {sample.gt_label.numel()} labels: confidence of the true '
                         'class is that of a single one')
    return float(sample.pred_score[int(sample.gt_label)])


def draw_confidences(subjects: Sequence[Subject], condition: Condition, out: str | Path,
                     number: int = 4, seed: int = 0, indices: Sequence[int] | None = None) -> str:
    """Clean image, changed image, and each model's confidence of the true class under both.

    Writes ``confidence.png``, ``.pdf`` and ``.csv`` (with the names of the images), as figure 5
    of the AFAT paper. Where models choose their own patches, each has its picture.

    Args:
        subjects (Sequence[Subject]): The models, on the data of the first.
        condition (Condition): Corruption or occlusion.
        out (str | Path): Folder of the files.
        number (int): How many images.
        seed (int): Which ones.
        indices (Sequence[int], optional): Given images instead.

    Returns:
        str: A line of numbers for each model.

    Raises:
        ValueError: If the condition is clean, there is no single true class, or the data have
            other classes than a model.
    """
    if condition.is_clean:
        raise ValueError('name a corruption, or a share of patches to occlude (--occlude 0.1), to '
                         'compare with the clean image')
    source = ImageSource(subjects[0].cfg)
    source.check_classes(subjects)
    classes = source.meta.get('classes')
    rows: list[dict[str, Any]] = []
    panels = []
    for index in tqdm(source.choose(number, seed, indices), desc='confidence', unit='image'):
        pictures = {'clean': source.display(source.load(index))}
        values: dict[str, tuple[float, float]] = {}
        for subject in subjects:
            found = []
            for seen in (CLEAN, condition):
                data = subject.look(source, index, seen)
                sample = subject.predict(data)
                found.append(true_class_confidence(sample))
                label = (_name(sample.gt_label, classes) if 'gt_label' in sample else '')
                rows.append(dict(image=source.name(index), true_class=label, model=subject.name,
                                 condition=str(seen), confidence=found[-1],
                                 predicted=_name(sample.pred_label, classes)
                                 if 'pred_label' in sample else ''))
            values[subject.name] = tuple(found)
            changed = source.display(data)
            if not any(np.array_equal(changed, picture) for picture in pictures.values()):
                pictures[f'{condition}' if condition.chosen_by != 'model'
                         else f'chosen by\n{subject.name}'] = changed
        panels.append((source.title(index), label, pictures, values))
    out = Path(out)
    write_table(out / 'confidence.csv', rows)
    _draw(panels, condition, out / 'confidence.png')
    return '\n'.join(
        f'{subject.name}: confidence of the true class ' + ', '.join(
            f'{_mean(rows, subject.name, seen):.3f} ({seen})' for seen in (CLEAN, condition))
        for subject in subjects)


def _mean(rows: Sequence[dict[str, Any]], model: str, condition: Condition) -> float:
    return float(np.mean([row['confidence'] for row in rows if row['model'] == model
                          and row['condition'] == str(condition)]))


def _name(label: Any, classes: Sequence[str] | None) -> str:
    index = int(label)
    return classes[index] if classes and index < len(classes) else str(index)


def _draw(panels: Sequence[tuple], condition: Condition, path: Path) -> None:
    columns = max(len(pictures) for _, _, pictures, _ in panels)
    models = len(panels[0][3])
    height, width = panels[0][2]['clean'].shape[:2]
    side = 1.5 if height >= width else 2.2
    line = max(side * height / width + 0.25, 0.34 * models + 0.35)
    figure, axes = new_figure(side * columns + 2.9, line * len(panels) + 0.6, len(panels),
                              columns + 1, width_ratios=[side] * columns + [2.4])
    for i, (name, label, pictures, values) in enumerate(panels):
        row = axes[i]
        for axis, (title, picture) in zip(row, pictures.items(), strict=False):
            show_image(axis, picture, title)
            axis.title.set_fontsize(SIZES['tick'])
        for axis in row[len(pictures):-1]:
            axis.set_visible(False)
        row[0].set_ylabel(f'{name}\n{label}'.strip(), fontsize=SIZES['tick'])
        _bars(row[-1], values, last=i == len(panels) - 1)
    figure.legend(handles=[Patch(facecolor='white', edgecolor=GREY, label='clean'),
                           Patch(facecolor=GREY, label=str(condition))],
                  fontsize=SIZES['legend'], frameon=False, loc='outside lower center', ncols=2)
    save_figure(figure, path)


def _bars(axis: Axes, values: dict[str, tuple[float, float]], last: bool) -> None:
    for i, (clean, changed) in enumerate(values.values()):
        colour = COLOURS[i % len(COLOURS)]
        axis.barh(i - 0.19, clean, 0.34, facecolor='white', edgecolor=colour, linewidth=1.1)
        axis.barh(i + 0.19, changed, 0.34, color=colour)
        for place, value in ((i - 0.19, clean), (i + 0.19, changed)):
            axis.text(value + 0.02, place, f'{value:.2f}', va='center', fontsize=SIZES['tick'] - 1)
    axis.set_yticks(range(len(values)), list(values), fontsize=SIZES['tick'])
    axis.invert_yaxis()
    axis.set_xlim(0, 1.16)
    axis.set_xticks([0, 0.5, 1])
    axis.grid(False, axis='y')
    if last:
        axis.set_xlabel('confidence of the true class', fontsize=SIZES['tick'])
