"""The embedded data set: drawn street scenes, for whoever has no Cityscapes at hand.

Scenes are read as files of a storage of their own, ``synthetic_streets://``. So the ordinary
loading transforms, visualisation hooks and benchmarks of the host library work on them unchanged.
"""
import re
from functools import lru_cache
from typing import Any

import cv2
from mmengine.fileio import BaseStorageBackend, register_backend
from mmengine.registry import DATASETS

from mmrobust.utils.hosts import require

from .scene import SPLITS, draw_scene

require('mmseg')
from mmseg.datasets import BaseSegDataset, CityscapesDataset

PREFIX = 'synthetic_streets'
URI = re.compile(PREFIX + r'://(\d+)x(\d+)/seed(\d+)/(\w+)/(image|label)/(\d+)\.png')
DEFAULT_SAMPLES = dict(train=400, val=60, test=60)


@lru_cache(maxsize=2)  # a label map is read right after its image
def _files(width: int, height: int, seed: int, split: str, index: int) -> dict[str, bytes]:
    image, labels = draw_scene((width, height), seed, split, index)
    fast = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    return {kind: cv2.imencode('.png', array, fast)[1].tobytes()
            for kind, array in (('image', image), ('label', labels))}


@register_backend(PREFIX, prefixes=PREFIX, force=True)
class SyntheticStreetsBackend(BaseStorageBackend):
    """Draws ``synthetic_streets://256x128/seed0/val/image/000012.png`` when it is read.

    Its label map is ``.../val/label/000012.png``.
    """

    def get(self, filepath: str) -> bytes:
        """The bytes of a PNG file.

        Raises:
            FileNotFoundError: If the path names no scene.
        """
        found = URI.fullmatch(str(filepath))
        if found is None or found[4] not in SPLITS:
            raise FileNotFoundError(
                f'{filepath} is no synthetic street scene: paths look like '
                f'{PREFIX}://256x128/seed0/val/image/000012.png.')
        width, height, seed, split, kind, index = found.groups()
        return _files(int(width), int(height), int(seed), split, int(index))[kind]

    def get_text(self, filepath: str) -> str:
        """There is no text in this storage."""
        raise NotImplementedError(f'{filepath} is a picture, not a text.')


def _positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


@DATASETS.register_module(force=True)
class SyntheticStreets(BaseSegDataset):
    """Procedural street scenes with the classes and the palette of Cityscapes.

    A scene depends on size, seed, split and index only, whatever process draws it. Pipelines are
    those of any segmentation data set, beginning with ``LoadImageFromFile``.

    Args:
        split (str): 'train', 'val' or 'test'; they share no scene.
        num_samples (int, optional): Number of scenes. Defaults to 400 of train, 60 of the others.
        image_size (tuple[int, int]): Width and height in pixels.
        seed (int): Another seed makes another data set.
        **kwargs: Arguments of :class:`mmseg.datasets.BaseSegDataset`.

    Raises:
        ValueError: If the split is unknown, or a number is out of its range.
    """

    METAINFO = CityscapesDataset.METAINFO

    def __init__(self,
                 split: str = 'train',
                 num_samples: int | None = None,
                 image_size: tuple[int, int] = (256, 128),
                 seed: int = 0,
                 **kwargs) -> None:
        if split not in SPLITS:
            raise ValueError(f'unknown split {split!r} of SyntheticStreets: choose one of '
                             f'{", ".join(SPLITS)}.')
        if num_samples is None:
            num_samples = DEFAULT_SAMPLES[split]
        if not _positive(num_samples):
            raise ValueError(f'num_samples must be a positive integer, got {num_samples!r}.')
        if len(image_size) != 2 or not all(map(_positive, image_size)):
            raise ValueError(f'image_size must be two positive integers, width and height in '
                             f'pixels, got {image_size!r}.')
        if not isinstance(seed, int) or seed < 0:
            raise ValueError(f'seed must be an integer of 0 or more, got {seed!r}.')
        self.num_samples = num_samples
        folder = f'{PREFIX}://{image_size[0]}x{image_size[1]}/seed{seed}/{split}'
        super().__init__(
            data_prefix=dict(img_path=f'{folder}/image', seg_map_path=f'{folder}/label'),
            **kwargs)

    def load_data_list(self) -> list[dict]:
        """The paths of the scenes."""
        return [
            dict(img_path=f'{self.data_prefix["img_path"]}/{index:06d}.png',
                 seg_map_path=f'{self.data_prefix["seg_map_path"]}/{index:06d}.png',
                 label_map=self.label_map, reduce_zero_label=self.reduce_zero_label,
                 seg_fields=[])
            for index in range(self.num_samples)
        ]

    def get_data_info(self, idx: int) -> dict:
        """What the pipeline starts from.

        Raises:
            IndexError: If there is no such scene.
        """
        self.full_init()
        if not -len(self) <= idx < len(self):
            raise IndexError(f'scene {idx} of SyntheticStreets, which has {len(self)} scenes.')
        return super().get_data_info(idx % len(self))
