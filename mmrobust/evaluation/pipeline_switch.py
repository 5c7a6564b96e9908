"""Changing what a built test data set reads, wherever in its pipelines the loading is."""
import copy
import os.path as osp
from collections.abc import Iterable
from typing import Any

import numpy as np
from mmcv.transforms import TRANSFORMS, Resize
from mmengine.dataset import Compose

from mmrobust.datasets.decoded_images import DecodedImages
from mmrobust.datasets.delivery import Delivery, delivery
from mmrobust.datasets.pipeline import (
    edit_loading,
    image_root,
    leaves,
    name_files,
    without_loading,
)
from mmrobust.datasets.transforms.corrupt import Corrupt, relative_path
from mmrobust.datasets.transforms.read_image import ReadImage, find_corrupted

from .protocols import CLEAN, Cell
from .protocols.base import RESIZING

PREPARED = (224, 224)
# below it, an image that is enlarged to 224 is no photograph any more
SMALLEST_PHOTOGRAPH = 64


def leaf_datasets(dataset: Any) -> list[Any]:
    """The data sets with a pipeline of their own inside any wrappers.

    Raises:
        ValueError: If a data set has no pipeline.
    """
    found = list(leaves(dataset))
    for leaf in found:
        if not hasattr(getattr(leaf, 'pipeline', None), 'transforms'):
            raise ValueError(f'{type(leaf).__name__} has no pipeline into which a corruption '
                             f"could be inserted: use a data set with MMEngine's pipelines.")
    return found


def for_prepared(pipeline: list[dict], drop: Iterable[str]) -> list[dict]:
    """A pipeline without the steps that the images of a cell do not need.

    Args:
        pipeline (list[dict]): The config's own steps.
        drop (Iterable[str]): Types of the steps to leave out. Those that resize and crop are not
            needed by images that are given decoded, and of 224 x 224 already: if the pipeline
            ends with one size and another than that, a resizing to it takes their place.

    Returns:
        list[dict]: The steps.
    """
    kept = [step for step in pipeline if _type(step) not in drop]
    if not any(_type(step) in RESIZING for step in pipeline if _type(step) in drop):
        return kept
    own, found = _final_size(pipeline), _final_size(kept)
    if own in (None, PREPARED, found):
        return kept
    at = next(i for i, old in enumerate(pipeline) if i == len(kept) or old is not kept[i])
    return [*kept[:at], dict(type='Resize', scale=own[::-1],
                             interpolation=_interpolation(own)), *kept[at:]]


def _type(step: dict) -> str:
    return str(step.get('type')).rsplit('.', 1)[-1]


def _final_size(pipeline: list[dict]) -> tuple[int, int] | None:
    """Height and width that a pipeline makes of any prepared image; None if they vary."""
    run, sizes = Compose(copy.deepcopy(without_loading(pipeline))), set()
    for width in (PREPARED[1], PREPARED[1] + 70):
        shape = PREPARED[0], width
        sizes.add(_size(run(dict(img=np.zeros((*shape, 3), np.uint8), img_shape=shape,
                                 ori_shape=shape, gt_label=0, img_path='', sample_idx=0))))
    return sizes.pop() if len(sizes) == 1 else None


def _size(results: dict) -> tuple[int, int]:
    """Height and width of the image that a pipeline gives."""
    image = results.get('inputs', results.get('img'))
    # (C, H, W) of a tensor, (H, W, C) of an image; views of one are of one size
    image = image[0] if isinstance(image, (list, tuple)) else image
    return tuple(image.shape[-2:] if 'inputs' in results else image.shape[:2])


def _interpolation(size: tuple[int, int]) -> str:
    return 'area' if size[0] < PREPARED[0] else 'bicubic'


class PipelineSwitch:
    """The pipelines of a test data set, switched from cell to cell.

    Args:
        dataset: A built data set, wrapped or not.
        room (float): Bytes for decoded images that are kept from cell to cell. Defaults to 0.
    """

    def __init__(self, dataset: Any, room: float = 0.) -> None:
        name_files(dataset)
        self.room = room
        self._decoded: dict[int, DecodedImages] = {}
        self._leaves = [(leaf, list(leaf.pipeline.transforms)) for leaf in leaf_datasets(dataset)]
        self._known: dict[tuple, Any] = {}

    def switch(self, cell: Cell) -> None:
        """Make the data set read what the cell asks for.

        Raises:
            ValueError: If the data set loads no image (file) where the cell needs one.
        """
        for leaf, transforms in self._leaves:
            leaf.pipeline.transforms = self._edited(cell, leaf, transforms)

    def _edited(self, cell: Cell, leaf: Any, transforms: list) -> list:
        root = image_root(leaf)
        own = self._own_size(leaf, transforms) if cell.prepare else None
        prepare = () if cell.name == CLEAN and own is None else cell.prepare
        inserted = [TRANSFORMS.build(copy.deepcopy(cfg)) for cfg in prepare]
        if prepare:
            transforms = [t for t in transforms if type(t).__name__ not in RESIZING]
        resized = []
        if prepare and own is not None:
            resized = [Resize(scale=own[::-1], interpolation=_interpolation(own))]

        def edit(loading: Any) -> list:
            return [ReadImage(loading, root, cell.folder, cell.size,
                              self._keeper(leaf, loading)), *inserted,
                    *self._corruption(cell, leaf, loading), *resized]

        if (edited := edit_loading(transforms, leaf, edit)) is not None:
            return edited
        if cell.corrupted_root:
            raise ValueError(f'{type(leaf).__name__} reads no image files that ready-made images '
                             f'could replace: leave out their folder to corrupt on the fly.')
        if not inserted and not cell.corruption:
            return transforms
        if 'img' not in leaf.get_data_info(0):
            raise ValueError(f'nothing in the test pipeline of {type(leaf).__name__} loads an '
                             f'image that could be corrupted: begin it with LoadImageFromFile.')
        return inserted + self._corruption(cell, leaf, None) + resized + transforms

    def _keeper(self, leaf: Any, loading: Any) -> DecodedImages | None:
        """What keeps the decoded images of a data set."""
        if not self.room or not DecodedImages.suits(loading):
            return None
        if id(leaf) not in self._decoded:
            self._decoded[id(leaf)] = DecodedImages(len(leaf), self.room / len(self._leaves))
        return self._decoded[id(leaf)]

    @property
    def full(self) -> bool:
        """Whether some decoded image found no room."""
        return any(kept.full for kept in self._decoded.values())

    def _corruption(self, cell: Cell, leaf: Any, loading: Any) -> list:
        """The corruption of a cell, for images as the data set delivers them."""
        if not cell.corruption:
            return []
        key = id(leaf), id(loading)
        if key not in self._known:
            self._known[key] = delivery(leaf, loading)
        found: Delivery = self._known[key]
        if cell.prepare and found.side < SMALLEST_PHOTOGRAPH:
            raise ValueError(
                f'the images of {type(leaf).__name__} are {found.side:g} pixels wide or high, too '
                f'small for the severities of ImageNet-C: take cifar10-c or cifar100-c for images '
                f'of 32 x 32, or a group such as benchmark.')
        return [Corrupt(root=image_root(leaf), image_order=found.order, peak=found.peak,
                        **cell.corruption)]

    def _own_size(self, leaf: Any, transforms: list) -> tuple[int, int] | None:
        """What the config's pipeline ends with, if that is one size and another than 224 x 224."""
        key = id(leaf), 'size'
        if key not in self._known:
            sizes = set()
            for index in sorted({0, len(leaf) // 2, len(leaf) - 1}):
                results = leaf.get_data_info(index)
                for transform in transforms:
                    results = transform(results)
                sizes.add(_size(results))
            self._known[key] = (sizes.pop() if len(sizes) == 1 and sizes != {PREPARED} else None)
        return self._known[key]

    def check_folders(self, cells: Iterable[Cell]) -> None:
        """Make sure that the ready-made images of all cells are there.

        Raises:
            FileNotFoundError: If a folder or a file is missing.
        """
        for cell in cells:
            folder = cell.folder
            if folder is None or cell.severity == 0:
                continue
            if not osp.isdir(folder):
                raise FileNotFoundError(
                    f'no folder {folder} with the images of {cell}: make the corrupted copy '
                    f'complete, or choose only corruptions and severities that are there.')
            for leaf, _ in self._leaves:
                for index in range(len(leaf)):
                    path = leaf.get_data_info(index).get('img_path')
                    if path:
                        find_corrupted(folder, relative_path(path, image_root(leaf)))
