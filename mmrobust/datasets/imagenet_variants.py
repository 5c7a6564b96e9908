"""ImageNet's robustness test sets, in the folders that they are published in.

Labels are always ImageNet-1k indices, so that any ImageNet model can be tested on all of them.
"""
from collections.abc import Sequence
from typing import ClassVar

from mmengine.fileio import get_file_backend
from mmengine.registry import DATASETS

from mmrobust.corruptions.severities import LEVELS
from mmrobust.utils.hosts import require

from .imagenet_classes import WNIDS, class_indices

require('mmpretrain')
from mmpretrain.datasets import ImageNet
from mmpretrain.datasets.custom import find_folders, get_samples


def _some(names: Sequence[str]) -> str:
    return ', '.join(names[:3]) + (f' and {len(names) - 3} more' if len(names) > 3 else '')


class WnidFolders(ImageNet):
    """Images of ImageNet classes in folders named by wnid: ``<data_root>/<wnid>/<image>``.

    Args:
        data_root (str): The folder with the class folders.
        complete (bool): Whether the whole published set must be there. False accepts a part of
            its classes and images.
        **kwargs: Arguments of :class:`mmpretrain.datasets.ImageNet`.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it holds class folders that do not belong to the set, lacks some, or the
            number of images differs from the published one.
    """

    class_set: ClassVar[str] = 'imagenet'
    num_images: ClassVar[int | None] = None

    def __init__(self, data_root: str, complete: bool = True, lazy_init: bool = False,
                 **kwargs) -> None:
        self.complete = complete
        super().__init__(data_root=data_root, lazy_init=True, **{'test_mode': True, **kwargs})
        # a benchmark builds its data sets lazily to learn early what is missing
        if not get_file_backend(self.img_prefix, enable_singleton=True).isdir(self.img_prefix):
            raise FileNotFoundError(
                f'{type(self).__name__} finds no folder {self.img_prefix}: it should hold the '
                f'class folders, {WNIDS[0]} and the like.')
        if not lazy_init:
            self.full_init()

    def _find_samples(self) -> list[tuple[str, int]]:
        name, root = type(self).__name__, self.img_prefix
        backend = get_file_backend(root, enable_singleton=True)
        labels = {WNIDS[index]: index for index in class_indices(self.class_set)}
        # archives made on some systems add folders of their own
        present = [f for f in find_folders(root, backend)[0] if not f.startswith(('.', '__'))]
        unknown = [folder for folder in present if folder not in labels]
        if unknown:
            raise ValueError(
                f'{root} holds folders that are no classes of {name}: {_some(unknown)}; point '
                f'data_root at the folder that holds its {len(labels)} wnid folders only.')
        missing = sorted(set(labels) - set(present))
        if missing and (self.complete or not present):
            raise ValueError(
                f'{root} holds {len(present)} of the {len(labels)} classes of {name}, '
                f'{_some(missing)} are missing: unpack the archive again, or set complete=False '
                f'to use a part.')
        samples, empty = get_samples(
            root, {f: labels[f] for f in present}, self.is_valid_file, backend)
        if empty and (self.complete or not samples):
            raise ValueError(
                f'{root} holds class folders of {name} without an image '
                f'({"/".join(sorted(self.extensions))}): {_some(sorted(empty))}; unpack the '
                f'archive again, or set complete=False to use a part.')
        if self.complete and self.num_images not in (None, len(samples)):
            raise ValueError(
                f'{root} holds {len(samples)} images, {name} has {self.num_images}: unpack the '
                f'archive again, or set complete=False to use a part.')
        return samples


@DATASETS.register_module(force=True)
class ImageNetA(WnidFolders):
    """ImageNet-A: 7,500 natural images that fooled a ResNet-50, of 200 classes.

    Hendrycks et al., "Natural Adversarial Examples", CVPR 2021.
    """

    class_set = 'imagenet-a'
    num_images = 7500


@DATASETS.register_module(force=True)
class ImageNetR(WnidFolders):
    """ImageNet-R: 30,000 renditions (art, cartoons, toys ...) of 200 classes.

    Hendrycks et al., "The Many Faces of Robustness", ICCV 2021.
    """

    class_set = 'imagenet-r'
    num_images = 30000


@DATASETS.register_module(force=True)
class ImageNetSketch(WnidFolders):
    """ImageNet-Sketch: about 50 black-and-white sketches of each of the 1000 classes.

    Wang et al., "Learning Robust Global Representations by Penalizing Local Predictive Power",
    NeurIPS 2019. Copies differ in the number of images, which is therefore not checked.
    """


@DATASETS.register_module(force=True)
class ImageNetC(WnidFolders):
    """One cell of ImageNet-C: ``<data_root>/<corruption>/<severity>/<wnid>/<image>``.

    Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
    Perturbations", ICLR 2019. The images are 224 x 224 already: do not resize them.

    Args:
        data_root (str): The folder with the corruptions' folders.
        corruption (str): Name of the corruption.
        severity (int): 1 to 5.
        **kwargs: Arguments of :class:`WnidFolders`.
    """

    num_images = 50000

    def __init__(self, data_root: str, corruption: str, severity: int, **kwargs) -> None:
        if severity not in LEVELS:
            raise ValueError(f'severity must be an integer from 1 to 5, got {severity!r}.')
        super().__init__(data_root, data_prefix=f'{corruption}/{severity}', **kwargs)
