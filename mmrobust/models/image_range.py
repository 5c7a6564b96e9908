"""What a model's data preprocessor makes of pixels."""
import torch
from torch import Tensor, nn


def normalisation(preprocessor: nn.Module) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of an OpenMMLab data preprocessor, in grey levels.

    Returns:
        tuple[Tensor, Tensor]: Each (C, 1, 1) in the order of the model's channels; scalars 0 and
        1 without normalisation.
    """
    mean, std = getattr(preprocessor, 'mean', None), getattr(preprocessor, 'std', None)
    return (torch.tensor(0.), torch.tensor(1.)) if mean is None or std is None else (mean, std)


def image_range(preprocessor: nn.Module) -> tuple[Tensor, Tensor]:
    """Lowest and highest value, what black and white, pixels of 0 and 255, become.

    They have the shapes of :func:`normalisation`.
    """
    mean, std = normalisation(preprocessor)
    return (0 - mean) / std, (255 - mean) / std


def swaps_channels(preprocessor: nn.Module) -> bool:
    """Whether the model gets the channels in the reverse of the pipeline's order."""
    # MMEngine's and the maintained MMSegmentation's, the original MMSegmentation's, MMPretrain's
    return any(getattr(preprocessor, name, False)
               for name in ('_channel_conversion', 'channel_conversion', 'to_rgb'))
