"""Balls of an attack, L-infinity and L2, around images of [0, 1]."""
import torch
from torch import Tensor

NORMS = ('linf', 'l2')
TINY = 1e-12


def lengths(x: Tensor) -> Tensor:
    """Euclidean lengths (B, 1, 1, 1) of images or gradients (B, C, H, W)."""
    return x.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def project(images: Tensor, centre: Tensor, radius: float, norm: str) -> Tensor:
    """The images (B, C, H, W), moved into the ball around ``centre`` and into [0, 1]."""
    offset = images - centre
    if norm == 'linf':
        offset = offset.clamp(-radius, radius)
    else:
        offset = offset * (radius / lengths(offset).clamp_min(TINY)).clamp(max=1)
    # the centre is in [0, 1], so that clamping brings nothing out of the ball
    return (centre + offset).clamp(0, 1)


def steepest(gradient: Tensor, norm: str) -> Tensor:
    """Direction of length 1 (B, C, H, W) in which a loss grows fastest."""
    return gradient.sign() if norm == 'linf' else gradient / lengths(gradient).clamp_min(TINY)


def start_offset(uniform: Tensor, radius: float, norm: str) -> Tensor:
    """A random offset from draws (B, C, H, W) of [0, 1): in the cube, or on the sphere."""
    offset = 2 * uniform - 1
    return offset * radius if norm == 'linf' else offset * (
        radius / lengths(offset).clamp_min(TINY))


def check_ball(radius: float, norm: str) -> None:
    """Raise ValueError unless there are such balls."""
    from .victim import check_number

    if norm not in NORMS:
        raise ValueError(f"norm='{norm}': choose {' or '.join(NORMS)}")
    check_number('radius', radius, 'it is given for images of [0, 1], such as 8/255',
                 most=1 if norm == 'linf' else float('inf'))


def where(mask: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Of two batches, image by image; ``mask`` is (B,)."""
    return torch.where(mask.view(-1, *[1] * (first.ndim - 1)), first, second)
