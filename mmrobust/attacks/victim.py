"""A model as an attacker sees it: from images of [0, 1] to a loss per image."""
import hashlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrobust.corruptions.seeding import image_seed


class Victim:
    """One batch of a model's test data, with the path from its pixels to its loss.

    Gradients pass through the model's own data preprocessor. Classifiers are attacked on the
    cross-entropy of their logits, segmentors on the mean per-pixel cross-entropy of the logits
    that their own test mode (whole or slide) predicts.

    Args:
        model (nn.Module): The model, in evaluation mode.
        data (dict): A batch of its test data loader: uint8 images and labelled data samples.

    Attributes:
        images (Tensor): The images (B, C, H, W) in [0, 1], in the order of the pipeline's
            channels.
        mean, std (Tensor): Their normalisation, (C, 1, 1), in the same order and units.

    Raises:
        ValueError: If the images are no pixels of 0 to 255 any more, or differ in size, or there
            are no labels.
    """

    def __init__(self, model: nn.Module, data: dict):
        self.model = getattr(model, 'module', model)
        inputs = data['inputs']
        if any(image.dtype != torch.uint8 for image in inputs):
            raise ValueError('an attack needs images of 0 to 255 (uint8): leave the normalisation '
                             'to the data_preprocessor instead of the pipeline')
        if len({image.shape for image in inputs}) > 1:
            raise ValueError('an attack needs images of one size in a batch: set '
                             'test_dataloader.batch_size=1')
        self._stacked = isinstance(inputs, Tensor)
        self._rest = {key: value for key, value in data.items() if key != 'inputs'}
        self.pixels = inputs if self._stacked else torch.stack(list(inputs))
        self.device = next(self.model.parameters()).device
        self.images = self.pixels.to(self.device).float() / 255

        preprocessor = self.model.data_preprocessor
        self._flip = bool(getattr(preprocessor, '_channel_conversion',
                                  getattr(preprocessor, 'to_rgb', False)))
        mean, std = getattr(preprocessor, 'mean', None), getattr(preprocessor, 'std', None)
        ones = torch.ones(self.images.shape[1], 1, 1, device=self.device)
        # without normalisation the model sees pixels of 0 to 255
        self.mean, self.std = ((0 * ones, ones / 255) if mean is None
                               else (self._order(ones * mean / 255), self._order(ones * std / 255)))

    def _order(self, x: Tensor) -> Tensor:
        """Between the channels of the pipeline and of the model: RGB and BGR are mirror images."""
        return x.flip(-3) if self._flip else x

    def generators(self, name: str, seed: int) -> list[torch.Generator]:
        """A random stream for every image, which depends on its pixels and nothing else."""
        digests = [hashlib.blake2b(image.cpu().contiguous().numpy().tobytes()).hexdigest()
                   for image in self.pixels]
        return [torch.Generator().manual_seed(image_seed(digest, name, 0, seed))
                for digest in digests]

    def uniform(self, name: str, seed: int) -> Tensor:
        """Draws (B, C, H, W) of [0, 1), the same for the same image."""
        shape = self.images.shape[1:]
        return torch.stack([torch.rand(shape, generator=generator)
                            for generator in self.generators(name, seed)]).to(self.device)

    def normalise(self, images: Tensor) -> Tensor:
        """Images in [0, 1] as the model sees them, less any padding."""
        return self._order((images - self.mean) / self.std)

    def denormalise(self, images: Tensor) -> Tensor:
        """The inverse of :meth:`normalise`."""
        return self._order(images) * self.std + self.mean

    def batch(self, images: Tensor) -> dict:
        """The test batch with other images (B, C, H, W) in [0, 1]."""
        images = images * 255
        return dict(inputs=images if self._stacked else list(images), **self._rest)

    def losses(self, images: Tensor) -> Tensor:
        """Cross-entropy (B,) of images in [0, 1]."""
        data = self.model.data_preprocessor(self.batch(images), False)
        inputs, samples = data['inputs'], data['data_samples']
        if all('gt_sem_seg' in sample for sample in samples):
            return self._segmentation_losses(inputs, samples)
        if all('gt_label' in sample for sample in samples):
            labels = torch.cat([sample.gt_label for sample in samples]).to(inputs.device)
            return F.cross_entropy(self.model(inputs, mode='tensor').float(), labels,
                                   reduction='none')
        raise ValueError('an attack needs labels: the data samples have neither gt_label '
                         '(classification) nor gt_sem_seg (segmentation)')

    def _segmentation_losses(self, inputs: Tensor, samples: list[Any]) -> Tensor:
        ignored = self.model.decode_head.ignore_index
        losses = []
        for sample in self.model.predict(inputs, samples):
            labels = sample.gt_sem_seg.data.long().to(inputs.device)  # (1, H, W)
            logits = sample.seg_logits.data[None].float()  # (1, classes, H, W)
            total = F.cross_entropy(logits, labels, ignore_index=ignored, reduction='sum')
            losses.append(total / (labels != ignored).sum().clamp(min=1))
        return torch.stack(losses)


def check_positive(name: str, value: float, hint: str) -> None:
    """Raise ValueError unless ``value`` is above 0."""
    if not value > 0:
        raise ValueError(f'{name}={value} must be above 0: {hint}')
