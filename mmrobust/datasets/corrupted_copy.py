"""Corrupted copies of an image folder: written once, read by any tool."""
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from mmrobust.corruptions import GROUPS, NAMES, corrupt, image_seed
from mmrobust.utils.files import write_bytes_atomically, write_text_atomically

SUFFIXES = {'.png', '.jpg', '.jpeg', '.bmp', '.webp', '.tif', '.tiff', '.ppm'}
SETTINGS = 'settings.json'


def write_corrupted_copies(source: str, target: str, corruptions: Sequence[str] = ('benchmark',),
                           severities: Sequence[int] = (1, 2, 3, 4, 5), *, workers: int = 1,
                           format: str = 'png', quality: int = 95, channel_order: str = 'rgb',
                           seed: int = 0, family: str = 'imagenet') -> int:
    """Writes ``<target>/<type>/<severity>/<path below source>`` for every image and cell.

    What is there already is kept, so an interrupted run continues. An image depends on its path
    below ``source``, the type, the severity and the seed only; as PNG it equals what the
    transform ``Corrupt`` makes of it.

    Args:
        source (str): Folder with images, at any depth.
        target (str): Folder to write.
        corruptions (Sequence[str]): Types and groups of types.
        severities (Sequence[int]): Of 1 to 5.
        workers (int): Processes that share the work.
        format (str): 'png' or 'jpg'.
        quality (int): Of JPEG files, 1 to 100.
        channel_order (str): Order of the channels as the corruptions see them. They are made for
            'rgb'; the published Cityscapes-C images were made with 'bgr'.
        seed (int): Selects another set of random draws.
        family (str): Table of severities, 'imagenet' or 'cifar'.

    Returns:
        int: How many files were written.

    Raises:
        FileNotFoundError: The source holds no image.
        ValueError: An unknown type or option, an image that cannot be decoded, or a target that
            was begun with other settings.
    """
    cells = [(name, severity) for name in expand(corruptions) for severity in severities]
    for option, value, known in (('format', format, ('png', 'jpg')),
                                 ('channel order', channel_order, ('rgb', 'bgr'))):
        if value not in known:
            raise ValueError(f'The {option} is {value!r}: choose {" or ".join(known)}.')
    if not 1 <= quality <= 100:
        raise ValueError(f'The quality is {quality}: choose 1 to 100.')
    black = np.zeros((32, 32, 3), np.uint8)
    for name, severity in cells:  # complains about wrong names, severities and families
        corrupt(black, name, severity, seed=0, family=family)
    images = find_images(source)
    names = _unique_names(images, format)

    settings = dict(format=format, channel_order=channel_order, seed=seed, family=family)
    if format == 'jpg':
        settings['quality'] = quality
    _check_settings(Path(target), settings)
    present = {os.path.relpath(os.path.join(folder, file), target)
               for folder, _, files in os.walk(target) for file in files}
    missing = [(image, [cell for cell in cells
                        if os.path.join(cell[0], str(cell[1]), names[image]) not in present])
               for image in images]
    total = len(images) * len(cells)
    written = 0
    with tqdm(total=total, initial=total - sum(len(left) for _, left in missing),
              unit='image') as bar:
        work = partial(_corrupt_file, source, target, settings)
        for count in _run(work, [(image, names[image], left) for image, left in missing if left],
                          workers):
            written += count
            bar.update(count)
    return written


def copy_settings(folder: str) -> dict:
    """How :func:`write_corrupted_copies` made a folder; empty for one of another origin."""
    path = Path(folder) / SETTINGS
    return json.loads(path.read_text()) if path.is_file() else {}


def expand(corruptions: Sequence[str]) -> list[str]:
    """Replaces groups by their types, and drops repetitions."""
    names = [name for entry in corruptions for name in GROUPS.get(entry, (entry,))]
    for name in names:
        if name not in NAMES:
            raise ValueError(f'Unknown corruption {name!r}: choose groups ({", ".join(GROUPS)}) '
                             f'or types ({", ".join(NAMES)}).')
    return list(dict.fromkeys(names))


def find_images(source: str) -> list[str]:
    """Lists the images below a folder, by their relative paths."""
    if not os.path.isdir(source):
        raise FileNotFoundError(f'The image folder {source} does not exist: name the folder of '
                                f'the images to corrupt.')
    images = sorted(path.relative_to(source).as_posix() for path in Path(source).rglob('*')
                    if path.suffix.lower() in SUFFIXES and path.is_file())
    if not images:
        raise FileNotFoundError(f'The folder {source} holds no image '
                                f'({", ".join(sorted(SUFFIXES))}).')
    return images


def _unique_names(images: list[str], format: str) -> dict[str, str]:
    """Returns the relative path of each image's copies."""
    names = {image: str(Path(image).with_suffix(f'.{format}')) for image in images}
    owners: dict[str, str] = {}
    for image, name in names.items():
        if owners.setdefault(name, image) != image:
            raise ValueError(f'{owners[name]} and {image} would both become {name}: rename one.')
    return names


def _check_settings(target: Path, settings: dict) -> None:
    path = target / SETTINGS
    if path.exists():
        begun = json.loads(path.read_text())
        if begun != settings:
            raise ValueError(f'{target} was begun with {begun}, not with {settings}: use those '
                             'settings or another folder.')
        return
    write_text_atomically(path, json.dumps(settings, indent=2))


def _run(work, tasks: list[tuple], workers: int) -> Iterator[int]:
    if workers <= 1:
        yield from (work(*task) for task in tasks)
        return
    pool = ProcessPoolExecutor(workers, get_context('spawn'), cv2.setNumThreads, (1,))
    try:
        for finished in as_completed([pool.submit(work, *task) for task in tasks]):
            yield finished.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _corrupt_file(source: str, target: str, settings: dict, image: str, name: str,
                  cells: list[tuple[str, int]]) -> int:
    """Writes the given cells of one image, and returns how many they are."""
    path = os.path.join(source, image)
    decoded = cv2.imread(path, cv2.IMREAD_COLOR)
    if decoded is None:
        raise ValueError(f'{path} cannot be decoded as an image: replace or remove it.')
    swap = settings['channel_order'] == 'rgb'
    if swap:
        decoded = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    options = [cv2.IMWRITE_JPEG_QUALITY, settings['quality']] if 'quality' in settings else []
    for corruption, severity in cells:
        try:
            corrupted = corrupt(decoded, corruption, severity, family=settings['family'],
                                seed=image_seed(image, corruption, severity, settings['seed']))
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from error
        if swap:
            corrupted = cv2.cvtColor(corrupted, cv2.COLOR_RGB2BGR)
        _, code = cv2.imencode(f'.{settings["format"]}', corrupted, options)
        write_bytes_atomically(Path(target, corruption, str(severity), name), code.tobytes())
    return len(cells)
