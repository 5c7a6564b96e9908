"""Segmentations of several models beside the image and its ground truth."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.patches import Patch, Rectangle
from tqdm import tqdm

from mmrobust.utils.figures import SIZES, new_figure, save_figure, show_image
from mmrobust.utils.files import write_table

from .conditions import CLEAN, Condition
from .subject import ImageSource, Subject

IGNORED = 255
MOST_BOXES = 3
SMALLEST_BOX = 0.002  # part of the image


def compare_segmentations(subjects: Sequence[Subject], out: str | Path, number: int = 3,
                          seed: int = 0, conditions: Sequence[Condition] = (),
                          dataset: dict | None = None,
                          indices: Sequence[int] | None = None) -> str:
    """Image, ground truth and predictions side by side; boxes where the models differ most.

    Writes ``segmentation_comparison.png``, ``.pdf`` and ``.csv``.

    Args:
        subjects (Sequence[Subject]): One segmenter or more; boxes compare the first two.
        out (str | Path): Folder of the files.
        number (int): How many images.
        seed (int): Which ones.
        conditions (Sequence[Condition]): Corruptions and occlusions to see each image under;
            where every model chooses its own patches, the first one's are shown. Defaults to
            none.
        dataset (dict, optional): Config of another data set, such as ACDC.
        indices (Sequence[int], optional): Given images instead.

    Returns:
        str: A line of numbers for each model.

    Raises:
        ValueError: If a model is no segmenter, or the data have other classes.
    """
    source = ImageSource(subjects[0].cfg, dataset)
    source.check_classes(subjects)
    rows: list[dict[str, Any]] = []
    panels = []
    for index in tqdm(source.choose(number, seed, indices), desc='segmentations', unit='image'):
        for condition in conditions or (CLEAN,):
            predictions, seen = [], []
            for subject in subjects:
                data = subject.look(source, index, condition)
                seen.append(data)
                truth = _labels(data['data_samples'], 'gt_sem_seg')
                predictions.append(_labels(subject.predict(data), 'pred_sem_seg'))
                if predictions[-1] is None:
                    raise ValueError(f'{subject.name} predicts no segmentation: give the config '
                                     'of a segmenter')
                if truth is not None and truth.shape != predictions[-1].shape:
                    raise ValueError(f'the label map of {source.name(index)} has the shape '
                                     f'{truth.shape}, its segmentation '
                                     f'{predictions[-1].shape}: replace it by one class per pixel')
                rows.append(dict(image=source.name(index), condition=str(condition),
                                 model=subject.name, **_scores(predictions[-1], truth)))
            panels.append((source.display(seen[0]), truth, predictions, source.title(index),
                           condition))
    out = Path(out)
    write_table(out / 'segmentation_comparison.csv', rows)
    _draw(panels, [subject.name for subject in subjects], source.meta,
          out / 'segmentation_comparison.png')
    lines = []
    for subject in subjects:
        own = [row for row in rows if row['model'] == subject.name and row['mean_iou'] is not None]
        if own:
            lines.append(f'{subject.name}: ' + ', '.join(
                f'{key.replace("_", " ")} {np.mean([row[key] for row in own]):.2f}'
                for key in ('pixel_accuracy', 'mean_iou')) + ', mean over these images')
    return '\n'.join(lines)


def _labels(sample: Any, key: str) -> np.ndarray | None:
    return sample.get(key).data.squeeze(0).cpu().numpy() if key in sample else None


def _scores(prediction: np.ndarray, truth: np.ndarray | None) -> dict[str, float | None]:
    """Accuracy and mean IoU in percent over the classes that the image has."""
    if truth is None:
        return dict(pixel_accuracy=None, mean_iou=None)
    known = truth != IGNORED
    prediction, truth = prediction[known], truth[known]
    classes = np.unique(truth)
    overlaps = [np.mean((prediction == c)[(prediction == c) | (truth == c)]
                        & (truth == c)[(prediction == c) | (truth == c)]) for c in classes]
    return dict(pixel_accuracy=100 * float(np.mean(prediction == truth)),
                mean_iou=100 * float(np.mean(overlaps)))


def difference_boxes(first: np.ndarray, second: np.ndarray, truth: np.ndarray | None = None
                     ) -> list[tuple[int, int, int, int]]:
    """The largest regions in which two label maps differ, or in which only one is right.

    Args:
        first, second (np.ndarray): Label maps (H, W).
        truth (np.ndarray, optional): Ground truth (H, W).

    Returns:
        list[tuple[int, int, int, int]]: Left, top, width and height of at most three boxes, the
        largest region first.
    """
    differ = first != second
    if truth is not None:
        differ &= ((first == truth) != (second == truth)) & (truth != IGNORED)
    # strips along edges, as wide as labelling is uncertain, are no difference to look at
    size = max(3, min(differ.shape) // 60) | 1  # odd, else regions move
    cleaned = cv2.morphologyEx(differ.astype(np.uint8), cv2.MORPH_OPEN,
                               np.ones((size, size), np.uint8))
    _, _, found, _ = cv2.connectedComponentsWithStats(cleaned, connectivity=8)
    largest = sorted(found[1:].tolist(), key=lambda region: -region[cv2.CC_STAT_AREA])
    return [tuple(region[:4]) for region in largest[:MOST_BOXES]
            if region[cv2.CC_STAT_AREA] >= SMALLEST_BOX * differ.size]


def _draw(panels: list[tuple], models: list[str], meta: dict, path: Path) -> None:
    classes, palette = meta['classes'], np.array(meta['palette'], np.uint8)
    only_clean = all(condition.is_clean for *_, condition in panels)
    has_truth = any(truth is not None for _, truth, *_ in panels)
    titles = ['image', *(['ground truth'] if has_truth else []), *models]
    height, width = panels[0][2][0].shape
    cell = 2.1
    figure, axes = new_figure(cell * len(titles),
                              (cell * height / width + 0.06) * len(panels) + 0.8,
                              len(panels), len(titles))
    seen: set[int] = set()
    for row, (image, truth, predictions, name, condition) in enumerate(panels):
        line = axes[row]
        size = predictions[0].shape[::-1]
        maps = [*([truth] if has_truth else []), *predictions]
        pictures = [cv2.resize(image, size), *(_coloured(labels, palette) for labels in maps)]
        boxes = (difference_boxes(*predictions[:2], truth) if len(predictions) > 1 else [])
        seen.update(*(np.unique(labels).tolist() for labels in maps if labels is not None))
        for axis, picture, title in zip(line, pictures, titles, strict=True):
            show_image(axis, picture, '' if row else title)
            for left, top, box_width, box_height in boxes:
                for colour, thickness in (('black', 2.2), ('white', 1.1)):
                    axis.add_patch(Rectangle((left, top), box_width, box_height, fill=False,
                                             edgecolor=colour, linewidth=thickness))
        # of images of real snow it would be no help to say that they are clean
        label = name if only_clean else f'{name}\n{condition}'
        line[0].set_ylabel(label, fontsize=SIZES['tick'])
    handles = [Patch(color=palette[i] / 255, label=classes[i])
               for i in sorted(seen) if i < len(classes)]
    figure.legend(handles=handles, fontsize=SIZES['legend'], frameon=False,
                  loc='outside lower center', ncols=min(len(handles), 3 * len(titles)),
                  handlelength=1, columnspacing=1)
    save_figure(figure, path)


def _coloured(labels: np.ndarray | None, palette: np.ndarray) -> np.ndarray:
    """Label map as RGB; what is ignored, or not known, in black."""
    if labels is None:
        return np.zeros((1, 1, 3), np.uint8)
    table = np.zeros((IGNORED + 1, 3), np.uint8)
    table[:len(palette)] = palette
    return table[labels]
