"""How a data set really delivers its images: the order of channels, and what value is white."""
import copy
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import cv2
import numpy as np
from mmengine import fileio

from .grey_levels import find_peak
from .images import load_named

LOOKED_AT = 6


@dataclass(frozen=True)
class Delivery:
    """What the transform ``Corrupt`` has to know of images as they are loaded.

    Args:
        order (str): Of the channels, 'rgb' or 'bgr'.
        peak (float): The value of white: 255, 65535 of 16 bits, or 1 of floats.
        side (float): Shorter side in pixels, the median of some images.
    """
    order: str
    peak: float
    side: float


def delivery(dataset: Any, load: Callable[[dict], dict] | None) -> Delivery:
    """Look at some images as a data set's own loading step gives them.

    Args:
        dataset: A built data set with ``get_data_info``.
        load (Callable, optional): The step that loads an image; none for data sets that hold
            decoded images.

    Raises:
        ValueError: If they cannot be brought to grey levels of 0 to 255 and back.
    """
    length = len(dataset)
    indices = np.unique(np.linspace(0, length - 1, min(length, LOOKED_AT)).astype(int))
    name, images, infos = type(dataset).__name__, [], []
    for index in indices.tolist():
        info = dataset.get_data_info(index)
        loaded = load_named(load, copy.deepcopy(info)) if load is not None else info
        image = loaded.get('img') if isinstance(loaded, dict) else None
        if not isinstance(image, np.ndarray):
            raise ValueError(f'{name} loads {type(image).__name__} instead of an array: it '
                             f'cannot be corrupted.')
        images.append(image)
        infos.append(info)
    shape = images[0].shape
    if any(image.ndim not in (2, 3) or image.ndim == 3 and image.shape[-1] not in (1, 3)
           for image in images):
        raise ValueError(
            f'the images of {name} have the shape {shape}: corruptions are for grey images and '
            f'for three channels, load them so (color_type of LoadImageFromFile).')
    order = _order(dataset, load, images, infos) if len(shape) == 3 and shape[-1] == 3 else 'bgr'
    return Delivery(order, find_peak(images, name),
                    median(min(image.shape[:2]) for image in images))


def _order(dataset: Any, load: Callable | None, images: list[np.ndarray], infos: list[dict]
           ) -> str:
    """Order of the channels: by what other decoders read from the same files, else by a probe."""
    votes = {'rgb': 0, 'bgr': 0}
    for image, info in zip(images, infos, strict=True):
        if (vote := _compare(image, _decode(info.get('img_path'), load))) is not None:
            votes[vote] += 1
    if votes['rgb'] != votes['bgr']:
        return max(votes, key=votes.get)
    if 'img' in infos[0]:  # decoded already, as in MMPretrain's CIFAR10, or given by the user
        return 'bgr' if load is not None and not _is_pretrain(dataset) else 'rgb'
    return _probe(load, infos[0]) or 'bgr'


def _is_pretrain(dataset: Any) -> bool:
    return any(cls.__module__.startswith('mmpretrain.datasets.cifar')
               for cls in type(dataset).__mro__)


def _decode(path: Any, load: Any) -> np.ndarray | None:
    """The image in BGR, as OpenCV reads it; None where it cannot."""
    if not isinstance(path, (str, os.PathLike)):
        return None
    try:
        content = fileio.get(path, backend_args=getattr(load, 'backend_args', None))
        return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except Exception:  # whoever has to read it says why not
        return None


def _compare(image: np.ndarray, bgr: np.ndarray | None) -> str | None:
    """Which order the channels of an image have, given the same picture in BGR."""
    if bgr is None or image.ndim != 3 or image.shape[-1] != 3:
        return None
    # shares of the channels do not depend on size or range
    own, known = (pixels.reshape(-1, 3).mean(0, dtype=np.float64) for pixels in (image, bgr))
    if not own.sum() or not known.sum():
        return None
    own, known = own / own.sum(), known / known.sum()
    if abs(known[0] - known[2]) < 0.004:
        return None
    straight, swapped = abs(own - known).sum(), abs(own - known[::-1]).sum()
    return None if straight == swapped else 'bgr' if straight < swapped else 'rgb'


def _probe(load: Callable | None, info: dict) -> str | None:
    """The order in which the loading step gives a picture that is red on the left."""
    if load is None:
        return None
    picture = np.full((48, 48, 3), (40, 90, 200), np.uint8)  # BGR: reddish
    suffix = os.path.splitext(str(info.get('img_path', '')))[1].lower()
    with tempfile.TemporaryDirectory() as folder:
        for ending in dict.fromkeys([suffix, '.png', '.tif']):
            path = os.path.join(folder, f'probe{ending}')
            try:
                if cv2.imwrite(path, picture):
                    loaded = load({**copy.deepcopy(info), 'img_path': path})
                    if (found := _compare(loaded['img'], picture)) is not None:
                        return found
            except Exception:  # a step that reads only its own kind of files
                continue
    return None
