"""Corruptions are made in 256 grey levels: which value of an image is white, there and back."""
import numpy as np

FULL = {8: 255., 16: 65535.}
# the brightest of several images lies above a quarter of the range that its numbers use
BRIGHT = 65535 / 4


def find_peak(images: list[np.ndarray], name: str) -> float:
    """The value that is white in some images of a data set.

    Args:
        images (list[np.ndarray]): Images of one kind.
        name (str): What to call them in errors.

    Raises:
        ValueError: If it cannot be told, or they are no images of light.
    """
    kinds = {image.dtype for image in images}
    kind = images[0].dtype
    remedy = ('give 8-bit images (0 to 255), 16-bit ones that use their range (0 to 65535), or '
              'floats from 0 to 1 or 0 to 255')
    if len(kinds) > 1 or kind.kind not in 'uif':
        raise ValueError(f'the images of {name} are {", ".join(sorted(map(str, kinds)))}: {remedy}'
                         f' to be corrupted.')
    if kind == np.uint8:
        return FULL[8]
    low = min(float(image.min()) for image in images)
    high = max(float(image.max()) for image in images)
    found = f'the images of {name} are {kind} with values from {low:g} to {high:g}'
    if not low >= 0:  # also where it is not a number
        raise ValueError(f'{found}, so they were normalised before they could be corrupted: '
                         f'leave that to the data_preprocessor.')
    if kind.kind == 'f' and high <= 1:
        return 1. if high else FULL[8]
    if BRIGHT < high <= FULL[16]:
        return FULL[16]
    if high <= FULL[8] and (kind.kind != 'f' or high > 16):
        return FULL[8]
    raise ValueError(f'{found}, which does not tell the value of white: {remedy}.')


def to_grey_levels(image: np.ndarray, peak: float) -> np.ndarray:
    """An image as uint8, of which white is ``peak``.

    Raises:
        ValueError: If it holds values outside 0 to ``peak``.
    """
    if image.dtype == np.uint8 and peak == 255:
        return image
    if image.dtype.kind not in 'uif':
        raise ValueError(f'it is {image.dtype}: give integers or floats')
    low, high = float(image.min()), float(image.max())
    if not (low >= -0.01 * peak and high <= 1.01 * peak):
        raise ValueError(f'it holds {image.dtype} values from {low:g} to {high:g} where 0 is black '
                         f'and {peak:g} is white')
    return np.clip(np.rint(image * (255 / peak)), 0, 255).astype(np.uint8)


def from_grey_levels(levels: np.ndarray, dtype: np.dtype, peak: float) -> np.ndarray:
    """The inverse of :func:`to_grey_levels`: exact for integers whose white is 255 or 65535."""
    if dtype == np.uint8 and peak == 255:
        return levels
    return (levels.astype(np.float64) * (peak / 255)).astype(dtype)
