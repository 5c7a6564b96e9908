"""The range of valid pixels in the space that a model's data preprocessor normalises to."""
import torch
from torch import Tensor, nn


def image_range(preprocessor: nn.Module) -> tuple[Tensor, Tensor]:
    """What black and white, pixels of 0 and 255, become.

    Args:
        preprocessor (nn.Module): Data preprocessor of an OpenMMLab model, with or without
            normalisation.

    Returns:
        tuple[Tensor, Tensor]: Lowest and highest value, each (C, 1, 1), or scalar tensors
        without normalisation.
    """
    mean, std = getattr(preprocessor, 'mean', None), getattr(preprocessor, 'std', None)
    if mean is None or std is None:
        return torch.tensor(0.), torch.tensor(255.)
    return (0 - mean) / std, (255 - mean) / std
