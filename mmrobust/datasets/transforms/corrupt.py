"""Corruption as a transform for the pipelines of MMSegmentation, MMPretrain and MMDetection."""
import os.path as osp
from pathlib import PurePath

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from mmrobust.corruptions import NAMES, corrupt
from mmrobust.corruptions.seeding import image_seed
from mmrobust.corruptions.severities import SEVERITIES

CHANNEL_ORDERS = ('rgb', 'bgr')


def relative_path(path: str, root: str | None) -> str:
    """Path of an image below ``root``; without one, its folder and name.

    It has no machine in it, so it identifies the image in the same data set anywhere.
    """
    path = osp.normpath(path)
    root = osp.normpath(root) if root else None
    if root and path.startswith(root + osp.sep):
        path = osp.relpath(path, root)
    elif osp.isabs(path) or root is None:
        path = osp.join(*PurePath(path).parts[-2:])
    return PurePath(path).as_posix()


@TRANSFORMS.register_module(force=True)
class Corrupt(BaseTransform):
    """Apply one common corruption, the same to the same image wherever and whenever it is read.

    Required keys: ``img``, and ``img_path`` or ``sample_idx``. Modified keys: ``img``.

    The random draw depends on the image (its path below ``root``, or its index in the data set
    where there is no path), the type, the severity and the seed, and on nothing else.

    Args:
        name (str): Corruption type, one of ``mmrobust.corruptions.NAMES``.
        severity (int): 1 to 5.
        seed (int): Changes every random draw.
        channel_order (str): Order in which the corruption sees the image. The corruptions are
            made for 'rgb'; the published Cityscapes-C images were made with 'bgr'.
        family (str): Severity table, 'imagenet' or 'cifar'.
        root (str, optional): Folder of the images. Defaults to the folder above each image's.
        image_order (str): Order of the channels of ``img``; loading transforms give 'bgr'.

    Raises:
        ValueError: If the type, severity, family or an order is unknown, or the image has neither
            one nor three channels.
    """

    def __init__(self, name: str, severity: int, seed: int = 0, channel_order: str = 'rgb',
                 family: str = 'imagenet', root: str | None = None,
                 image_order: str = 'bgr') -> None:
        if name not in NAMES:
            raise ValueError(f'unknown corruption {name!r}: known are {", ".join(NAMES)}.')
        if severity not in range(1, 6):
            raise ValueError(f'severity {severity!r} of {name}: choose 1, 2, 3, 4 or 5.')
        if family not in SEVERITIES:
            raise ValueError(f'unknown family of severities {family!r}: '
                             f'choose {" or ".join(SEVERITIES)}.')
        for order in (channel_order, image_order):
            if order not in CHANNEL_ORDERS:
                raise ValueError(f"unknown channel order {order!r}: choose 'rgb' or 'bgr'.")
        self.name = name
        self.severity = severity
        self.seed = seed
        self.channel_order = channel_order
        self.family = family
        self.root = root
        self.image_order = image_order

    def identity(self, results: dict) -> str:
        """What tells this image from the others of its data set."""
        if results.get('img_path'):
            return relative_path(results['img_path'], self.root)
        return str(results['sample_idx'])

    def transform(self, results: dict) -> dict:
        image = results['img']
        if image.ndim == 3 and image.shape[-1] not in (1, 3):
            raise ValueError(f'{self.name} needs a grey or a three-channel image, but '
                             f'{self.identity(results)} has shape {image.shape}.')
        flip = image.ndim == 3 and self.channel_order != self.image_order
        dtype = image.dtype
        if dtype != np.uint8:
            image = np.clip(np.round(image), 0, 255).astype(np.uint8)
        if flip:
            image = np.ascontiguousarray(image[..., ::-1])
        image = corrupt(
            image, self.name, self.severity, family=self.family,
            seed=image_seed(self.identity(results), self.name, self.severity, self.seed))
        if flip:
            image = np.ascontiguousarray(image[..., ::-1])
        results['img'] = image.astype(dtype, copy=False)
        return results

    def __repr__(self) -> str:
        settings = ', '.join(f'{key}={value!r}' for key, value in vars(self).items())
        return f'{type(self).__name__}({settings})'
