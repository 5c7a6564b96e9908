"""Pictures of predictions: what the model saw, and what it made of it."""
import os.path as osp
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.hooks import Hook

from mmrobust.datasets.transforms.corrupt import relative_path
from mmrobust.utils.files import write_atomically

from .protocols import Cell

OPACITY = 0.5


def _palette(dataset_meta: dict | None, num_classes: int) -> np.ndarray:
    """Class colours, RGB (num_classes, 3)."""
    palette = (dataset_meta or {}).get('palette')
    if palette is None or len(palette) < num_classes:
        palette = np.random.RandomState(0).randint(0, 256, (num_classes, 3))
    return np.asarray(palette, np.uint8)


def draw_prediction(image: np.ndarray, sample: Any, dataset_meta: dict | None) -> np.ndarray:
    """The image beside the image with its prediction.

    Args:
        image (np.ndarray): BGR uint8 (H, W, 3), as the model saw it.
        sample: Data sample with ``pred_sem_seg``, or with ``pred_label`` and ``gt_label``.
        dataset_meta (dict, optional): ``classes`` and ``palette`` of the data set.

    Returns:
        np.ndarray: BGR uint8 (H, 2 W, 3).
    """
    if 'pred_sem_seg' in sample:
        labels = sample.pred_sem_seg.data.squeeze().cpu().numpy()
        palette = _palette(dataset_meta, int(labels.max()) + 1)
        colours = palette[labels][..., ::-1]  # (H, W, 3)
        colours = cv2.resize(colours.copy(), image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        drawn = cv2.addWeighted(image, 1 - OPACITY, colours, OPACITY, 0)
    else:
        classes = (dataset_meta or {}).get('classes')
        names = [str(classes[int(i)]) if classes else str(int(i)) for i in
                 (sample.pred_label.flatten()[0], sample.gt_label.flatten()[0])]
        drawn = np.full_like(image, 255)
        for row, text in enumerate((names[0], f'({names[1]})')):
            cv2.putText(drawn, text, (4, 14 + 16 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.4,
                        (0, 120, 0) if names[0] == names[1] else (0, 0, 200), 1, cv2.LINE_AA)
    return np.concatenate([image, drawn], axis=1)


class PredictionPictures(Hook):
    """Keep pictures of predictions, one folder per cell.

    Args:
        show_dir (str): Folder of the folders.
        interval (int): Keep every n-th batch.
    """
    priority = 'LOW'

    def __init__(self, show_dir: str, interval: int = 1) -> None:
        if not isinstance(interval, int) or interval < 1:
            raise ValueError(f'show_interval={interval!r}: it must be a whole number of at least 1')
        self.show_dir = show_dir
        self.interval = interval
        self.folder = show_dir

    def enter(self, cell: Cell) -> None:
        """Let the next pictures go to the folder of a cell."""
        self.folder = osp.join(self.show_dir, cell.name, str(cell.severity))

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None,
                        outputs: Any = None) -> None:
        if batch_idx % self.interval:
            return
        meta = runner.test_evaluator.dataset_meta
        for tensor, sample in zip(data_batch['inputs'], outputs or (), strict=False):
            if not ('pred_sem_seg' in sample or 'pred_label' in sample):
                continue
            if tensor.ndim != 3 or tensor.shape[0] not in (1, 3):
                continue
            # (C, H, W) -> (H, W, 3)
            image = tensor.detach().float().round().clamp(0, 255).to(torch.uint8)
            image = image.expand(3, -1, -1).permute(1, 2, 0).cpu().numpy()
            path = sample.get('img_path')
            name = (osp.splitext(relative_path(path, None))[0] if path
                    else str(sample.get('sample_idx', batch_idx)))
            picture = draw_prediction(np.ascontiguousarray(image), sample, meta)
            write_atomically(osp.join(self.folder, f'{name}.png'),
                             lambda path, picture=picture: cv2.imwrite(path, picture))
