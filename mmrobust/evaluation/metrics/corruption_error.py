"""Corruption error of ImageNet-C: the error relative to AlexNet's, so that no type dominates.

Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", ICLR 2019, section 4.1.
"""
from collections.abc import Sequence

from mmrobust.corruptions.severities import LEVELS

# AlexNet's top-1 error, mean over the five severities; there is none for the four extra types
ALEXNET_ERROR = {
    'gaussian_noise': 0.886428, 'shot_noise': 0.894468, 'impulse_noise': 0.922640,
    'defocus_blur': 0.819880, 'glass_blur': 0.826268, 'motion_blur': 0.785948,
    'zoom_blur': 0.798360, 'snow': 0.866816, 'frost': 0.826572, 'fog': 0.819324,
    'brightness': 0.564592, 'contrast': 0.853204, 'elastic_transform': 0.646056,
    'pixelate': 0.717840, 'jpeg_compression': 0.606500,
}


def corruption_error(corruption: str, errors: Sequence[float]) -> float:
    """Corruption error (CE) of one type, in percent: 100 means as bad as AlexNet.

    Args:
        corruption (str): One of the fifteen types of ImageNet-C.
        errors (Sequence[float]): Top-1 error in percent at severities 1 to 5.

    Raises:
        ValueError: If AlexNet's error is not known for the type, or a severity is missing.
    """
    if corruption not in ALEXNET_ERROR:
        raise ValueError(f'AlexNet has no published error on {corruption!r}: the corruption error '
                         f'is defined for {", ".join(ALEXNET_ERROR)}.')
    if len(errors) != len(LEVELS):
        raise ValueError(f'the corruption error of {corruption} needs the errors at all '
                         f'{len(LEVELS)} severities, got {len(errors)}.')
    return sum(errors) / len(LEVELS) / ALEXNET_ERROR[corruption]
