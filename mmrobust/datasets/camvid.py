"""CamVid, as it is commonly distributed, in the layout and with the labels of Cityscapes.

Brostow, Fauqueur and Cipolla, "Semantic object classes in video", Pattern Recognition Letters,
2009. The 32 classes are joined to the usual 11.
"""
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from mmrobust.utils.files import write_bytes_atomically

from .images import ImageDecodeError, check_whole, read_image, shown

IGNORE = 255
UNKNOWN = 254
STRAY = 0.01  # share of unknown pixels that is put up with
SPLITS = ('train', 'val', 'test')

# train id of Cityscapes -> its RGB colours among CamVid's 32
COLOURS = {
    10: {'Sky': (128, 128, 128)},
    2: {'Building': (128, 0, 0), 'Bridge': (0, 128, 64), 'Archway': (192, 0, 128),
        'Tunnel': (64, 0, 64), 'Wall': (64, 192, 0)},
    5: {'Column_Pole': (192, 192, 128), 'TrafficCone': (0, 0, 64)},
    0: {'Road': (128, 64, 128), 'LaneMkgsDriv': (128, 0, 192), 'LaneMkgsNonDriv': (192, 0, 64)},
    1: {'Sidewalk': (0, 0, 192), 'ParkingBlock': (64, 192, 128), 'RoadShoulder': (128, 128, 192)},
    8: {'Tree': (128, 128, 0), 'VegetationMisc': (192, 192, 0)},
    7: {'SignSymbol': (192, 128, 128), 'Misc_Text': (128, 128, 64), 'TrafficLight': (0, 64, 64)},
    4: {'Fence': (64, 64, 128)},
    13: {'Car': (64, 0, 128), 'SUVPickupTruck': (64, 128, 192), 'Truck_Bus': (192, 128, 192),
         'Train': (192, 64, 128), 'OtherMoving': (128, 64, 64)},
    11: {'Pedestrian': (64, 64, 0), 'Child': (192, 128, 64), 'CartLuggagePram': (64, 0, 192),
         'Animal': (64, 128, 64)},
    18: {'Bicyclist': (0, 128, 192), 'MotorcycleScooter': (192, 0, 192)},
    IGNORE: {'Void': (0, 0, 0)},
}
# the order of the keys is that of the 11 classes in the index images, void being the 12th
INDICES = tuple(COLOURS)


class Frame(NamedTuple):
    """One picture and its label map."""

    split: str
    image: Path
    label: Path

    @property
    def name(self) -> str:
        return self.image.stem


@cache
def _colour_table() -> np.ndarray:
    table = np.full(1 << 24, UNKNOWN, np.uint8)
    for train_id, classes in COLOURS.items():
        for red, green, blue in classes.values():
            table[red << 16 | green << 8 | blue] = train_id
    return table


@cache
def _index_table() -> np.ndarray:
    table = np.full(256, UNKNOWN, np.uint8)
    table[:len(INDICES)] = INDICES
    table[IGNORE] = IGNORE
    return table


def to_train_ids(labels: np.ndarray) -> np.ndarray:
    """Cityscapes train ids (H, W), uint8, of a CamVid label map.

    Args:
        labels (np.ndarray): Indices of the 11 classes and void (H, W), or RGB colours of the 32
            classes (H, W, 3).

    Raises:
        ValueError: If more than 1 % of it are indices or colours that CamVid does not have;
            fewer are ignored, as labels drawn by hand have stray pixels.
    """
    if labels.ndim == 2:
        ids = _index_table()[labels.astype(np.uint8)]
    else:
        red, green, blue = np.moveaxis(labels[..., :3].astype(np.uint32), -1, 0)
        ids = _colour_table()[red << 16 | green << 8 | blue]
    unknown = ids == UNKNOWN
    if unknown.mean() > STRAY:
        value = np.atleast_1d(labels[unknown][0]).tolist()[:3]
        raise ValueError(
            f'{"colour" if labels.ndim == 3 else "index"} {", ".join(map(str, value))} and the '
            f'like, in {int(unknown.sum())} pixels, are none of CamVid')
    ids[unknown] = IGNORE
    return ids


def usual_split(name: str) -> str:
    """The split to which a frame belongs by its name: 367 train, 101 val and 233 test.

    Badrinarayanan, Kendall and Cipolla, "SegNet", TPAMI 2017.
    """
    sequence, _, frame = name.partition('_')
    number = int(frame.lstrip('f') or 0)
    if sequence == 'Seq05VD' or (sequence == '0001TP' and number > 8520):
        return 'test'
    return 'val' if sequence == '0016E5' and 7959 <= number <= 8159 else 'train'


def _layouts(root: Path) -> Iterator[tuple[str | None, Path, Path]]:
    """Split (or None), folder of images and folder of label maps, for each pair that exists."""
    for split in SPLITS:
        for suffix in ('annot', '_labels'):
            yield split, root / split, root / f'{split}{suffix}'
    for labels in ('LabeledApproved_full', 'labels'):
        yield None, root / '701_StillsRaw_full', root / labels


def find_frames(root: str | Path) -> list[Frame]:
    """All frames of a CamVid folder, in any of the layouts it is distributed in.

    ``{train,val,test}`` beside ``{train,val,test}annot`` (index images, 480 x 360) or
    ``{train,val,test}_labels`` (colour images), or ``701_StillsRaw_full`` beside
    ``LabeledApproved_full`` (colour images, 960 x 720). A folder ``CamVid`` in it is entered.

    Raises:
        FileNotFoundError: If there is no such folder, none of the layouts, or a missing file.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f'no folder {root}: name the one that CamVid was unpacked to.')
    pairs = [found for base in (root, root / 'CamVid') for found in _layouts(base)
             if found[1].is_dir() and found[2].is_dir()]
    if not pairs:
        raise FileNotFoundError(
            f'{root} does not look like CamVid: expected train/ beside trainannot/ or '
            f'train_labels/, or 701_StillsRaw_full/ beside LabeledApproved_full/.')
    frames = []
    for split, images, labels in pairs:
        for image in sorted(images.glob('*.png')):
            names = (f'{image.stem}.png', f'{image.stem}_L.png')
            label = next((labels / name for name in names if (labels / name).is_file()), None)
            if label is None:
                raise FileNotFoundError(
                    f'{image} has no label map: expected {labels / names[0]} or {names[1]}.')
            frames.append(Frame(split or usual_split(image.stem), image, label))
    if not frames:
        raise FileNotFoundError(f'{pairs[0][1]} holds no PNG images.')
    return frames


def _write(path: Path, array: np.ndarray, *options: int) -> None:
    write_bytes_atomically(path, cv2.imencode(path.suffix, array, list(options))[1].tobytes())


def convert_frame(frame: Frame, root: str | Path, size: tuple[int, int] = (480, 360),
                  quality: int = 95) -> None:
    """Write one frame in the layout of Cityscapes.

    Raises:
        ValueError: If a file cannot be decoded, image and label map differ in size, or the label
            map holds values that CamVid does not have.
    """
    image = read_image(frame.image)
    check_whole(frame.label, 'label map')
    try:
        with Image.open(frame.label) as file:
            labels = np.asarray(file if file.mode in ('L', 'P') else file.convert('RGB'))
    except Exception as error:  # damaged bytes can raise anything
        raise ImageDecodeError(
            f'label map {shown(frame.label)} cannot be decoded ({error}): fetch it again.'
        ) from error
    if labels.shape[:2] != image.shape[:2]:
        raise ValueError(
            f'{frame.label} is {labels.shape[1]} x {labels.shape[0]} pixels, its image '
            f'{image.shape[1]} x {image.shape[0]}: they must have the same size.')
    try:
        ids = to_train_ids(labels)
    except ValueError as error:
        raise ValueError(f'{frame.label}: {error}: it is another label map.') from None
    if image.shape[1::-1] != tuple(size):
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        ids = cv2.resize(ids, size, interpolation=cv2.INTER_NEAREST)
    root = Path(root)
    # the label map first: an image is there only together with its label map
    _write(root / 'gtFine' / frame.split / 'camvid' / f'{frame.name}_gtFine_labelTrainIds.png', ids)
    _write(root / 'leftImg8bit' / frame.split / 'camvid' / f'{frame.name}_leftImg8bit.jpg', image,
           cv2.IMWRITE_JPEG_QUALITY, quality)


def convert(source: str | Path, root: str | Path, size: tuple[int, int] = (480, 360),
            quality: int = 95) -> dict[str, int]:
    """Convert all of CamVid.

    Args:
        source: The folder as distributed; see :func:`find_frames`.
        root: The folder to write, the ``data_root`` of the configs.
        size: Width and height in pixels.
        quality: Of the JPEG images, 1 to 100.

    Returns:
        dict[str, int]: Number of frames of each split.
    """
    if min(size) < 1:
        raise ValueError(f'size must be two positive numbers of pixels, got {tuple(size)}.')
    if not 1 <= quality <= 100:
        raise ValueError(f'quality must lie in 1 to 100, got {quality}.')
    frames = find_frames(source)
    for frame in tqdm(frames, desc='CamVid', unit='frame'):
        convert_frame(frame, root, size, quality)
    return {split: count for split in SPLITS
            if (count := sum(frame.split == split for frame in frames))}
