"""A model as an attacker sees it: from images of [0, 1] to a loss per image."""
import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real

import torch
from mmengine.model import BaseTTAModel
from torch import Tensor, nn

from mmrobust.corruptions.seeding import image_seed
from mmrobust.models.image_range import normalisation, swaps_channels

from .losses import losses_of, pixels_of
from .pixels import PIXEL_LOSSES, image_counts, image_iou


class Victim:
    """One batch of a model's test data, with the path from its pixels to its loss.

    Gradients pass through the model's own data preprocessor.

    Args:
        model (nn.Module): The model, in evaluation mode.
        data (dict): A batch of its test data loader: uint8 images and labelled data samples.

    Attributes:
        images (Tensor): The images (B, C, H, W) in [0, 1], in the order of the pipeline's
            channels.
        moved (Tensor): Which images (B,) had a gradient that is not exactly zero.
        mean, std (Tensor): Their normalisation, (C, 1, 1), in the same order and units.

    Raises:
        ValueError: If the images are no pixels of 0 to 255 any more, or differ in size, or the
            model averages over augmented ones.
    """

    def __init__(self, model: nn.Module, data: dict):
        augmented = any(isinstance(part, (list, tuple)) for key in ('inputs', 'data_samples')
                        for part in data.get(key, ()))
        if augmented or any(isinstance(module, BaseTTAModel) for module in model.modules()):
            raise ValueError('an attack is made on one prediction, not on the mean over augmented '
                             'images: leave out --tta')
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
        self.moved = torch.zeros(len(self.images), dtype=torch.bool, device=self.device)

        preprocessor = self.model.data_preprocessor
        self._flip = swaps_channels(preprocessor)
        ones = torch.ones(self.images.shape[1], 1, 1, device=self.device)
        self.mean, self.std = (self._order(ones * value / 255)
                               for value in normalisation(preprocessor))

    def _order(self, x: Tensor) -> Tensor:
        """Between the channels of the pipeline and of the model: RGB and BGR are mirror images."""
        return x.flip(-3) if self._flip else x

    def watch(self, gradient: Tensor) -> Tensor:
        """Note for which images a gradient (B, C, H, W) is not zero; returns it."""
        self.moved |= gradient.flatten(1).ne(0).any(1)
        return gradient

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

    def losses(self, images: Tensor, loss: str = 'ce', progress: float = 0.) -> Tensor:
        """Loss (B,) of images in [0, 1]; see :func:`mmrobust.attacks.losses.losses_of`."""
        data = self.model.data_preprocessor(self.batch(images), False)
        with without_checkpointing(self.model):
            return losses_of(self.model, data['inputs'], data['data_samples'], loss, progress)

    def judge(self, images: Tensor, loss: str, progress: float = 0.
              ) -> tuple[Tensor, Tensor, Tensor]:
        """Losses (B,), their gradients (B, C, H, W) and the IoU (B,) of a segmenter's images."""
        images = images.detach().requires_grad_()
        with torch.enable_grad(), without_checkpointing(self.model):
            data = self.model.data_preprocessor(self.batch(images), False)
            found = pixels_of(self.model, data['inputs'], data['data_samples'])
            losses = torch.stack([PIXEL_LOSSES[loss](pixels, progress) for pixels in found])
            gradient = self.watch(input_gradient(losses.sum(), images))
        return losses.detach(), gradient, torch.stack([image_iou(pixels) for pixels in found])

    @torch.no_grad()
    def counts(self, images: Tensor) -> Tensor:
        """Pixels (B, 3, classes) of a segmenter's images, see :func:`.pixels.image_counts`."""
        data = self.model.data_preprocessor(self.batch(images), False)
        return torch.stack([image_counts(pixels) for pixels in pixels_of(
            self.model, data['inputs'], data['data_samples'])])

    @torch.no_grad()
    def scores(self, images: Tensor) -> Tensor:
        """How well images (B, C, H, W) are predicted, (B,): IoU, or 1 for the right class."""
        data = self.model.data_preprocessor(self.batch(images), False)
        samples = data['data_samples']
        if all('gt_sem_seg' in sample for sample in samples):
            return torch.stack([image_iou(pixels) for pixels in pixels_of(
                self.model, data['inputs'], samples)])
        found = self.model.predict(data['inputs'], samples)
        return torch.stack([(sample.pred_label == sample.gt_label.to(sample.pred_label.device)
                             ).all().double() for sample in found])


def input_gradient(loss: Tensor, images: Tensor, retain_graph: bool = False) -> Tensor:
    """Gradient of a scalar with respect to images.

    Raises:
        ValueError: If there is none, or if it is not finite.
    """
    gradient = None
    if loss.requires_grad:
        gradient, = torch.autograd.grad(loss, images, retain_graph=retain_graph, allow_unused=True)
    if gradient is None:
        raise ValueError('no gradient passes from the prediction to the image, which an attack '
                         'needs: the model or its data_preprocessor computes without gradients '
                         '(torch.no_grad) or detaches')
    if not gradient.isfinite().all():
        raise ValueError('the gradient of the loss is not finite: test in full precision, without '
                         '--amp, and look whether the model predicts numbers')
    return gradient


@contextmanager
def without_checkpointing(model: nn.Module) -> Iterator[None]:
    """Keeps activations: reentrant checkpointing gives no gradient of the input alone."""
    changed = [(module, name) for module in model.modules()
               for name in ('with_cp', 'gradient_checkpointing')
               if getattr(module, name, None) is True]
    for module, name in changed:
        setattr(module, name, False)
    try:
        yield
    finally:
        for module, name in changed:
            setattr(module, name, True)


def check_number(name: str, value: float, hint: str, *, most: float = math.inf,
                 whole: bool = False) -> None:
    """Raise ValueError unless ``value`` is a number above 0, of the kind and size wanted."""
    if not isinstance(value, Real) or isinstance(value, bool):
        problem = 'must be a number'
    elif not 0 < value < math.inf:
        problem = 'must be above 0'
    elif whole and value != int(value):
        problem = 'must be a whole number'
    elif value > most:
        problem = f'must be at most {most:g}'
    else:
        return
    raise ValueError(f'{name}={value} {problem}: {hint}')
