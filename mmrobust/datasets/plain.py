"""Plain data sets, of images and labels, as test data of the host libraries."""
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.structures import PixelData
from PIL import Image
from torch import Tensor

NEEDED = 'give pairs (image, label) with an image before normalisation (PIL, or uint8 of 0 to 255)'


class PlainDataset:
    """Images and labels of any indexed data set, in the form that pipelines of MMEngine read.

    Args:
        source (Sequence): ``source[i]`` is a pair (image, label), or a dict with ``image`` and
            ``label``. The image: PIL, or uint8 of shape (H, W, 3), (H, W) or, as a tensor,
            (3, H, W), in RGB. The label: a number, or a label map (H, W).
        transform (Callable, optional): PIL image to the tensor (C, H, W) that the network takes,
            as torchvision and timm make them. Defaults to the image itself as a tensor.
        classes (Sequence[str], optional): Names of the classes.
    """

    def __init__(self, source: Sequence, transform: Callable | None = None,
                 classes: Sequence[str] | None = None):
        self.source = source
        self.metainfo = dict(classes=tuple(classes)) if classes is not None else {}
        self.pipeline = Compose([])
        self.pipeline.transforms = [PackImage(transform)]

    def __len__(self) -> int:
        return len(self.source)

    def get_data_info(self, index: int) -> dict:
        """Image (H, W, 3), uint8, RGB, and label of a sample.

        Raises:
            ValueError: If it is no pair of an image before normalisation and a label.
        """
        sample, name = self.source[index], f'sample {index} of {type(self.source).__name__}'
        if isinstance(sample, Mapping):
            sample = [sample[key] for key in ('image', 'label') if key in sample]
        if not isinstance(sample, (list, tuple)) or len(sample) < 2:
            raise ValueError(f'{name} has no label: {NEEDED}')
        image = as_pixels(sample[0], name)
        label = as_label(sample[1], name)
        if label.ndim and label.shape != image.shape[:2]:
            raise ValueError(
                f'{name} has a label map of {label.shape[0]} x {label.shape[1]} and an image of '
                f'{image.shape[0]} x {image.shape[1]}: give it in the size of the image')
        return dict(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2],
                    gt=label, sample_idx=index)

    def __getitem__(self, index: int) -> dict:
        return self.pipeline(self.get_data_info(index))


class PackImage:
    """The last step of the pipeline: the user's transform, and a data sample with the label.

    Args:
        transform (Callable, optional): See :class:`PlainDataset`.
    """

    def __init__(self, transform: Callable | None):
        self.transform = transform

    def __call__(self, results: dict) -> dict:
        """Dict of an image to ``inputs`` and ``data_samples``.

        Raises:
            ValueError: If the transform gives no tensor of one image.
        """
        image, label = results['img'], results['gt']
        if self.transform is None:
            channels = image if image.ndim == 3 else image[..., None]
            inputs = torch.from_numpy(np.ascontiguousarray(channels.transpose(2, 0, 1)))
        else:
            inputs = self.transform(Image.fromarray(image))
        if not isinstance(inputs, Tensor) or inputs.ndim != 3:
            shape = f' of the shape {tuple(inputs.shape)}' if hasattr(inputs, 'shape') else ''
            raise ValueError(f'transform gives a {type(inputs).__name__}{shape}: it must make a '
                             'tensor (C, H, W) of a PIL image')
        if not label.ndim:
            from mmpretrain.structures import DataSample

            sample = DataSample(metainfo=dict(
                sample_idx=results['sample_idx'], img_shape=tuple(inputs.shape[1:]),
                ori_shape=results['ori_shape'])).set_gt_label(int(label))
        else:
            from mmseg.structures import SegDataSample

            sample = SegDataSample(metainfo=dict(
                sample_idx=results['sample_idx'], img_shape=tuple(inputs.shape[1:]),
                ori_shape=results['ori_shape']))
            sample.gt_sem_seg = PixelData(data=torch.from_numpy(label)[None].long())
        return dict(inputs=inputs, data_samples=sample)


def as_pixels(image: Any, name: str) -> np.ndarray:
    """An image of a plain data set as an array (H, W, 3) or (H, W), uint8.

    Raises:
        ValueError: If it is normalised already, or none.
    """
    if isinstance(image, Image.Image):
        return np.array(image if image.mode in ('RGB', 'L') else image.convert('RGB'))
    if isinstance(image, Tensor):
        image = image.cpu()
        image = (image.permute(1, 2, 0) if image.ndim == 3 and image.shape[0] in (1, 3)
                 else image).numpy()
    if not isinstance(image, np.ndarray) or image.ndim not in (2, 3):
        raise ValueError(f'{name} is a {type(image).__name__} instead of an image: {NEEDED}')
    if image.dtype != np.uint8:
        raise ValueError(
            f'{name} holds {image.dtype} values of {image.min():.3g} to {image.max():.3g}: '
            'corruptions are made for images before normalisation, so take the transform out of '
            f'the data set and give it as transform=, and {NEEDED}')
    image = np.ascontiguousarray(image)
    return image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image


def as_label(label: Any, name: str) -> np.ndarray:
    """A label as an integer array without dimensions, or a label map (H, W).

    Raises:
        ValueError: If it is neither.
    """
    array = np.asarray(label.cpu() if isinstance(label, Tensor) else label)
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.dtype.kind not in 'iu' or array.ndim not in (0, 2):
        raise ValueError(
            f'{name} has a label of the type {array.dtype} and the shape {array.shape}: a whole '
            'number is needed, or a label map (H, W) of whole numbers')
    return array.astype(np.int64)
