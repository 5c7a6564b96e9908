"""Common corruptions: Cityscapes-C, ImageNet-C, CIFAR-C, groups of types and single types."""
import os.path as osp
from collections.abc import Iterable, Mapping

from mmrobust.corruptions import GROUPS, NAMES
from mmrobust.corruptions.severities import LEVELS, SEVERITIES
from mmrobust.datasets.copy_records import copy_settings, other_corruptions

from .base import CLEAN, Cell, Protocol, register_protocol, unknown

# Headings of the tables of Hendrycks & Dietterich (ICLR 2019).
IMAGENET_C = {
    'noise': ('gaussian_noise', 'shot_noise', 'impulse_noise'),
    'blur': ('defocus_blur', 'glass_blur', 'motion_blur', 'zoom_blur'),
    'weather': ('snow', 'frost', 'fog', 'brightness'),
    'digital': ('contrast', 'elastic_transform', 'pixelate', 'jpeg_compression'),
}
IMAGENET_C_EXTRA = {
    'noise': ('speckle_noise',),
    'blur': ('gaussian_blur',),
    'weather': ('spatter',),
    'digital': ('saturate',),
}
ALL = {heading: IMAGENET_C[heading] + IMAGENET_C_EXTRA[heading] for heading in IMAGENET_C}
# Order and headings of the TAP & ADL paper, supplement IV.
CITYSCAPES_C = {
    'blur': ('motion_blur', 'defocus_blur', 'glass_blur', 'gaussian_blur'),
    'noise': ('gaussian_noise', 'impulse_noise', 'shot_noise', 'speckle_noise'),
    'digital': ('brightness', 'contrast', 'saturate', 'jpeg_compression'),
    'weather': ('snow', 'spatter', 'fog', 'frost'),
}
# ImageNet-C was made from images of 224 x 224: shorter side to 256, centre crop, corruption.
CROP_224 = (dict(type='mmpretrain.ResizeEdge', scale=256, edge='short', backend='pillow'),
            dict(type='mmpretrain.CenterCrop', crop_size=224))


# The published Cityscapes-C images had red and blue swapped when they were corrupted.
@register_protocol('cityscapes-c', headings=CITYSCAPES_C, severities_of={'noise': (1, 2, 3)},
                   channel_order='bgr', task='segmentation')
@register_protocol('imagenet-c', headings=IMAGENET_C, prepare=CROP_224, size=(224, 224),
                   summary='corruption_error', published='ImageNetC', task='classification')
@register_protocol('imagenet-c-extra', headings=IMAGENET_C_EXTRA, prepare=CROP_224, size=(224, 224),
                   published='ImageNetC', task='classification')
@register_protocol('cifar10-c', headings=IMAGENET_C, family='cifar', summary='mean_error',
                   size=(32, 32), published='CIFAR10C', task='classification')
@register_protocol('cifar100-c', headings=IMAGENET_C, family='cifar', summary='mean_error',
                   size=(32, 32), published='CIFAR100C', task='classification')
def corruption_protocol(
        name: str, headings: Mapping[str, tuple[str, ...]],
        severities_of: Mapping[str, tuple[int, ...]] | None = None, channel_order: str = 'rgb',
        family: str = 'imagenet', prepare: tuple[dict, ...] = (), summary: str = 'corruption',
        seed: int = 0, corrupted_root: str | None = None, published: str | None = None,
        data_root: str | None = None, complete: bool = True, jpeg_quality: int | None = None,
        size: tuple[int, int] | None = None, task: str | None = None) -> Protocol:
    """A protocol over the config's own test data: clean once, then each type and severity.

    Args:
        name (str): Name of the protocol.
        headings (Mapping[str, tuple[str]]): Corruption types under their table headings.
        severities_of (Mapping, optional): Severities of a heading. Defaults to 1 to 5.
        channel_order (str): Order in which the corruption sees the image, 'rgb' or 'bgr'.
        family (str): Severity table, 'imagenet' or 'cifar'.
        prepare, summary: See :class:`Cell` and :class:`Protocol`.
        seed (int): Changes every random draw.
        corrupted_root (str, optional): Folder of ready-made images, see :class:`Cell`.
        published (str, optional): Data set class of the published benchmark.
        data_root (str, optional): Folder of the published benchmark, to be read with its own
            list of images and labels.
        complete (bool): False accepts a part of it.
        jpeg_quality (int, optional): Let images that are corrupted on the fly go through JPEG,
            as the published files of ImageNet-C did at quality 85.
        size: Of ready-made images, see :class:`Cell`.
        task: See :class:`Protocol`.

    Raises:
        ValueError: If the channel order or the family is unknown, the ready-made images were
            made with others, or the published benchmark has no class of its own.
    """
    for option, value, known in (('channel_order', channel_order, ('rgb', 'bgr')),
                                 ('family', family, SEVERITIES)):
        if value not in known:
            raise ValueError(f'unknown {option} {value!r} of {name}: choose {" or ".join(known)}.')
    if jpeg_quality is not None and not (
            isinstance(jpeg_quality, int) and 1 <= jpeg_quality <= 100):
        raise ValueError(f'jpeg_quality {jpeg_quality!r} of {name}: choose an integer from 1 to '
                         f'100, 85 for the published ImageNet-C.')
    if published and corrupted_root and osp.isfile(osp.join(corrupted_root, 'labels.npy')):
        data_root, corrupted_root = corrupted_root, None  # CIFAR-C as published, in arrays
    if data_root is not None and (published is None or corrupted_root is not None):
        raise ValueError(f'{name} has no use for data_root: give the folder of ready-made images '
                         f'as corrupted_root only.')
    if corrupted_root is not None:
        _check_copy(name, corrupted_root, dict(channel_order=channel_order, family=family,
                                               seed=seed))
    ready_made = corrupted_root is not None or data_root is not None
    if ready_made and jpeg_quality is not None:
        raise ValueError(f'{name} has no use for jpeg_quality with ready-made images: leave it '
                         f'out.')
    cells = [Cell(CLEAN, prepare=tuple(prepare))]
    if ready_made:
        prepare = prepare[-1:]  # ready-made images are resized already: only the crop is left
    saved = {} if jpeg_quality is None else dict(jpeg_quality=jpeg_quality)
    for heading, types in headings.items():
        for type_ in types:
            for severity in (severities_of or {}).get(heading, LEVELS):
                corruption = dict(name=type_, severity=severity, seed=seed,
                                  channel_order=channel_order, family=family, **saved)
                cells.append(Cell(
                    type_, severity, prepare=tuple(prepare), corrupted_root=corrupted_root,
                    size=size if ready_made else None,
                    corruption=None if ready_made else corruption,
                    dataset=data_root and dict(
                        type=published, data_root=data_root, corruption=type_,
                        severity=severity, **({} if complete else dict(complete=False)))))
    return Protocol(name, tuple(cells), dict(headings), summary, task=task)


def _check_copy(name: str, root: str, wanted: dict) -> None:
    """Make sure that ready-made images were made as the protocol would make them."""
    made = copy_settings(root)
    other = [f'{key}={made[key]}' for key in wanted if key in made and made[key] != wanted[key]]
    if other:
        raise ValueError(
            f'the images in {root} were made with {", ".join(other)}, {name} is defined with '
            f'{", ".join(f"{key}={wanted[key]}" for key in wanted)}: make them so with '
            f'tools/converters/corrupt_dataset.py, or give --benchmark-options '
            f'{" ".join(other)} to measure with these.')
    if changed := other_corruptions(made):
        raise ValueError(
            f'the images in {osp.join(root, changed[0])} were made by another version of the '
            'corruptions, whose pixels differ: make them again with '
            'tools/converters/corrupt_dataset.py, or leave out their folder to corrupt on the fly.')


def expand_types(names: str | Iterable[str]) -> tuple[str, ...]:
    """Corruption types from a comma-separated string or a list of types and groups.

    Raises:
        ValueError: If a name is neither a type nor a group.
    """
    names = names.split(',') if isinstance(names, str) else list(names)
    types: list[str] = []
    for name in map(str.strip, names):
        if name not in GROUPS and name not in NAMES:
            raise unknown('corruption', name, [*NAMES, *GROUPS])
        types += GROUPS.get(name, (name,))
    return tuple(dict.fromkeys(types))


def register_types(name: str) -> None:
    """Register the protocol of a group, a type or a comma-separated list of these."""
    types = expand_types(name)
    headings = {heading: tuple(type_ for type_ in members if type_ in types)
                for heading, members in ALL.items()}
    register_protocol(name, headings={h: m for h, m in headings.items() if m})(
        corruption_protocol)


for group in GROUPS:
    register_types(group)
