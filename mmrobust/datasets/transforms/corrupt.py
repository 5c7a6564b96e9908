"""Corruption as a transform for the pipelines of MMSegmentation, MMPretrain and MMDetection."""
import os.path as osp
from pathlib import PurePath

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from mmrobust.corruptions import NAMES, corrupt, recompress
from mmrobust.corruptions.seeding import image_seed
from mmrobust.corruptions.severities import LEVELS, SEVERITIES
from mmrobust.datasets.grey_levels import from_grey_levels, to_grey_levels

CHANNEL_ORDERS = ('rgb', 'bgr')
CIFAR_SIZE = (32, 32)


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
        peak (float, optional): The value of white in ``img``. Defaults to 65535 for uint16 and 255
            otherwise; floats from 0 to 1 need ``peak=1``. The image is corrupted in 256 grey levels
            and comes back in its own type and range.
        jpeg_quality (int, optional): Let the corrupted image go through JPEG at this quality, as
            the published files of ImageNet-C did at 85.

    Raises:
        ValueError: If the type, severity, family or an order is unknown, or the image has neither
            one nor three channels, values beyond white, or another size than the family is for.
    """

    def __init__(self, name: str, severity: int, seed: int = 0, channel_order: str = 'rgb',
                 family: str = 'imagenet', root: str | None = None,
                 image_order: str = 'bgr', peak: float | None = None,
                 jpeg_quality: int | None = None) -> None:
        if name not in NAMES:
            raise ValueError(f'unknown corruption {name!r}: known are {", ".join(NAMES)}.')
        if severity not in LEVELS:
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
        self.peak = peak
        self.jpeg_quality = jpeg_quality

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
        try:
            results['img'] = self._corrupted(image, self.identity(results))
        except ValueError as error:
            raise ValueError(f'{results.get("img_path") or self.identity(results)} cannot be '
                             f'corrupted by {self.name}: {error}') from error
        return results

    def _corrupted(self, image: np.ndarray, identity: str) -> np.ndarray:
        if self.family == 'cifar' and image.shape[:2] != CIFAR_SIZE:
            raise ValueError(
                f"the severities of the family 'cifar' are for images of 32 x 32, not "
                f"{image.shape[1]} x {image.shape[0]}: give images of 32 x 32 (not ones that the "
                f"pipeline resizes later), or take a benchmark with family='imagenet'")
        coloured = image.ndim == 3 and image.shape[-1] == 3
        peak = self.peak or (65535 if image.dtype == np.uint16 else 255)
        levels = to_grey_levels(image, peak)
        if flip := coloured and self.channel_order != self.image_order:
            levels = np.ascontiguousarray(levels[..., ::-1])
        levels = corrupt(levels, self.name, self.severity, family=self.family,
                         seed=image_seed(identity, self.name, self.severity, self.seed))
        if self.jpeg_quality is not None:
            swap = coloured and self.channel_order == 'bgr'  # JPEG tells red from blue
            levels = recompress(np.ascontiguousarray(levels[..., ::-1]) if swap else levels,
                                self.jpeg_quality)
            levels = levels[..., ::-1] if swap else levels
        if flip:
            levels = levels[..., ::-1]
        return from_grey_levels(np.ascontiguousarray(levels), image.dtype, peak)

    def __repr__(self) -> str:
        settings = ', '.join(f'{key}={value!r}' for key, value in vars(self).items())
        return f'{type(self).__name__}({settings})'
