"""What a segmentation data set gives away without a look at the image."""
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from mmrobust.datasets.labels import check_label_map
from mmrobust.datasets.pipeline import name_files


def _labels(dataset: Any, size: tuple[int, int] | None, num_classes: int, ignore_index: int):
    """Label maps (H, W) of a built segmentation data set, resized to (width, height)."""
    for index in range(len(dataset)):
        labels = dataset[index]['data_samples']
        info = dataset.get_data_info(index) if hasattr(dataset, 'get_data_info') else {}
        name = info.get('seg_map_path', f'of sample {index}')
        if 'gt_sem_seg' not in labels:
            raise ValueError(f'{type(dataset).__name__} has no label map of sample {index}: '
                             f'check data_prefix and seg_map_suffix.')
        labels = labels.gt_sem_seg.data
        check_label_map(labels, name, num_classes, frozenset([ignore_index]))
        sample = labels.squeeze(0).numpy().astype(np.uint8)
        if size is not None and sample.shape[::-1] != size:
            sample = cv2.resize(sample, size, interpolation=cv2.INTER_NEAREST)
        yield sample


def label_prior_miou(train: Any, val: Any, num_classes: int, ignore_index: int = 255
                     ) -> tuple[float, np.ndarray]:
    """mIoU of predicting, at every pixel, the class that is most frequent there in training.

    A model that looks at its input must beat it.

    Args:
        train, val: Built data sets of MMSegmentation whose samples hold ``gt_sem_seg``.
        num_classes (int): Number of classes.
        ignore_index (int): Label that does not count. Defaults to 255.

    Returns:
        tuple[float, np.ndarray]: mIoU in percent over the classes that occur, and the IoU
        (num_classes,) of each, nan where it is undefined.
    """
    for dataset in (train, val):
        name_files(dataset)
    first = next(_labels(val, None, num_classes, ignore_index))
    size = first.shape[::-1]
    counts = np.zeros((num_classes, *first.shape), dtype=np.int32)
    for label in tqdm(_labels(train, size, num_classes, ignore_index), total=len(train),
                      desc='label frequencies'):
        for cls in np.unique(label[label != ignore_index]):
            counts[cls] += label == cls
    prior = counts.argmax(0)
    confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
    for label in tqdm(_labels(val, size, num_classes, ignore_index), total=len(val),
                      desc='comparison'):
        known = label != ignore_index
        pairs = label[known].astype(np.int64) * num_classes + prior[known]
        confusion += np.bincount(pairs, minlength=num_classes ** 2).reshape(confusion.shape)
    union = confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
    with np.errstate(invalid='ignore'):
        iou = np.where(union > 0, 100. * confusion.diagonal() / union, np.nan)
    return float(np.nanmean(iou)), iou
