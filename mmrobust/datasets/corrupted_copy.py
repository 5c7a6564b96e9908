"""Corrupted copies of an image folder: written once, read by any tool."""
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from mmrobust.corruptions import GROUPS, NAMES, check_size, corrupt, image_seed
from mmrobust.corruptions.severities import LEVELS
from mmrobust.utils.files import remove_abandoned, walk, write_bytes_atomically
from mmrobust.utils.lock import locked
from mmrobust.utils.processes import end_with_parent

from .copy_records import Sources, check_settings, content_digest
from .grey_levels import FULL, find_peak, from_grey_levels, to_grey_levels
from .images import check_whole, decode, header, shown

SUFFIXES = {'.png', '.jpg', '.jpeg', '.bmp', '.webp', '.tif', '.tiff', '.ppm'}
LOOKED_AT = 6  # images, for what 16 bits mean


def write_corrupted_copies(source: str, target: str, corruptions: Sequence[str] = ('benchmark',),
                           severities: Sequence[int] = LEVELS, *, workers: int = 1,
                           format: str = 'png', quality: int = 95, channel_order: str = 'rgb',
                           seed: int = 0, family: str = 'imagenet') -> int:
    """Writes ``<target>/<type>/<severity>/<path below source>`` for every image and cell.

    What is there already is kept, so an interrupted run continues, unless it was made of other
    images or by another version of the corruptions. An image depends on its path below
    ``source``, the type, the severity and the seed only; as PNG it equals what the transform
    ``Corrupt`` makes of it. Images of 16 bits are corrupted in 256 grey levels, and their copies
    have 16 bits and the range of the source.

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
        ValueError: An unknown type or option, an image that cannot be decoded or corrupted (its
            size is looked at before work begins), 16 bits that JPEG cannot hold or whose white
            cannot be told, a target that was begun with other settings, images or corruptions, or
            one that is not apart from the source.
    """
    cells = [(name, severity) for name in expand(corruptions) for severity in severities]
    for option, value, known in (('format', format, ('png', 'jpg')),
                                 ('channel order', channel_order, ('rgb', 'bgr'))):
        if value not in known:
            raise ValueError(f'The {option} is {value!r}: choose {" or ".join(known)}.')
    if not 1 <= quality <= 100:
        raise ValueError(f'The quality is {quality}: choose 1 to 100.')
    if workers < 0:
        raise ValueError(f'The number of workers is {workers}: choose at least 1.')
    black = np.zeros((32, 32, 3), np.uint8)
    for name, severity in cells:  # complains about wrong names, severities and families
        corrupt(black, name, severity, seed=0, family=family)
    images = find_images(source, target)
    names = _unique_names(images, format)

    _check_sizes(source, images, cells, family)
    peak = _peak_of_deep(source, images, format)
    settings = dict(format=format, channel_order=channel_order, seed=seed, family=family)
    if format == 'jpg':
        settings['quality'] = quality
    with locked(target):
        return _write_missing(source, target, settings, images, names, cells, workers, peak)


def _write_missing(source: str, target: str, settings: dict, images: list[str],
                   names: dict[str, str], cells: list[tuple[str, int]], workers: int,
                   peak: float) -> int:
    present = _present(target)
    missing = [(image, [cell for cell in cells if _place(*cell, names[image]) not in present])
               for image in images]
    kept = {cell for _, left in missing for cell in set(cells).difference(left)}
    check_settings(Path(target), settings, cells, kept)
    sources = Sources(source, target)
    sources.check([(image, [_place(*cell, names[image]) for cell in cells if cell not in left])
                   for image, left in missing if len(left) < len(cells)])
    total = len(images) * len(cells)
    written = 0
    try:
        with tqdm(total=total, initial=total - sum(len(left) for _, left in missing),
                  unit='image') as bar:
            work = partial(_corrupt_file, source, target, settings, peak)
            for image, digest, count in _run(
                    work, [(image, names[image], left) for image, left in missing if left],
                    workers):
                sources.add(image, digest)
                written += count
                bar.update(count)
    finally:
        sources.write()
    return written


def expand(corruptions: Sequence[str]) -> list[str]:
    """Replaces groups by their types, and drops repetitions."""
    names = [name for entry in corruptions for name in GROUPS.get(entry, (entry,))]
    for name in names:
        if name not in NAMES:
            raise ValueError(f'Unknown corruption {name!r}: choose groups ({", ".join(GROUPS)}) '
                             f'or types ({", ".join(NAMES)}).')
    return list(dict.fromkeys(names))


def find_images(source: str, target: str | None = None) -> list[str]:
    """Lists the images below a folder, by their relative paths; symbolic links are followed.

    Raises:
        FileNotFoundError: There is no such folder, no image in it, or a link leads nowhere.
        ValueError: The target is no folder apart from that of the images.
    """
    if not os.path.isdir(source):
        raise FileNotFoundError(f'The image folder {shown(source)} does not exist: name the '
                                f'folder of the images to corrupt.')
    images = []
    for folder, names in walk(source):
        if target is not None:
            _check_apart(folder, target)
        if os.path.splitext(folder)[1].lower() in SUFFIXES and folder != str(source):
            raise ValueError(f'{shown(folder)} is a folder with the name of an image: remove or '
                             'rename it.')
        for name in names:
            path = os.path.join(folder, name)
            if os.path.splitext(name)[1].lower() not in SUFFIXES:
                continue
            if not os.path.exists(path):
                raise FileNotFoundError(f'{shown(path)} is a link to a file that is not there: '
                                        'correct or remove it.')
            if not os.path.isfile(path):
                raise ValueError(f'{shown(path)} is a pipe, a socket or a device with the name of '
                                 'an image: remove or rename it.')
            images.append(Path(os.path.relpath(path, source)).as_posix())
    if not images:
        raise FileNotFoundError(f'The folder {shown(source)} holds no image '
                                f'({", ".join(sorted(SUFFIXES))}).')
    return sorted(images)


def _check_apart(folder: str, target: str) -> None:
    """The copies must not lie among the images, nor the images among the copies."""
    inner, outer = os.path.realpath(folder), os.path.realpath(target)
    if os.path.commonpath([inner, outer]) in (inner, outer):
        raise ValueError(f'the target {shown(target)} and the images in {shown(folder)} lie in one '
                         'another, so that copies would be taken for images: name a target '
                         'elsewhere.')


def _place(corruption: str, severity: int, name: str) -> str:
    return os.path.join(corruption, str(severity), name)


def _present(target: str) -> set[str]:
    """The relative paths of the files of a target; what killed runs left behind is removed."""
    present = set()
    if os.path.isdir(target):
        for folder, names in walk(target):
            remove_abandoned(folder)
            present |= {os.path.relpath(os.path.join(folder, name), target) for name in names}
    return present


def _unique_names(images: list[str], format: str) -> dict[str, str]:
    """Returns the relative path of each image's copies."""
    names = {image: str(Path(image).with_suffix(f'.{format}')) for image in images}
    owners: dict[str, str] = {}
    for image, name in names.items():
        if owners.setdefault(name, image) != image:
            raise ValueError(f'{owners[name]} and {image} would both become {name}: rename one.')
    return names


def _run(work, tasks: list[tuple], workers: int) -> Iterator[tuple[str, str, int]]:
    if workers <= 1:
        yield from (work(*task) for task in tasks)
        return
    pool = ProcessPoolExecutor(workers, get_context('spawn'), _initialise)
    try:
        for finished in as_completed([pool.submit(work, *task) for task in tasks]):
            yield finished.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _initialise() -> None:
    """One thread each, and none that goes on alone."""
    cv2.setNumThreads(1)
    end_with_parent(signal.SIGKILL)


def _check_sizes(source: str, images: list[str], cells: list[tuple[str, int]],
                 family: str) -> None:
    """Refuse images that a cell cannot corrupt, by what their files say of their size."""
    fine = set()
    for image in images:
        path = os.path.join(source, image)
        found = header(path)
        if found is None or found[0] in fine:
            continue  # whoever decodes it will see
        width, height = found[0]
        for name, severity in cells:
            try:
                check_size(height, width, name, severity, family)
            except ValueError as error:
                raise ValueError(f'{shown(path)}: {error}') from None
        fine.add(found[0])


def _peak_of_deep(source: str, images: list[str], format: str) -> float:
    """The value of white in images of 16 bits, by some of them.

    Raises:
        ValueError: If it cannot be told, or the copies could not hold it.
    """
    deep = []
    for index in np.unique(np.linspace(0, len(images) - 1, LOOKED_AT).astype(int)):
        path = os.path.join(source, images[index])
        check_whole(path)
        image = decode(Path(path).read_bytes(), f'image {shown(path)}', deep=True)
        if image.dtype == np.uint16:
            deep.append(image)
            _check_format(path, format)
    return find_peak(deep, shown(source)) if deep else FULL[16]


def _check_format(path: str, format: str) -> None:
    if format != 'png':
        raise ValueError(f'{shown(path)} has 16 bits, which {format} files cannot hold: write png '
                         'files, or convert the images to 8 bits first.')


def _corrupt_file(source: str, target: str, settings: dict, peak: float, image: str, name: str,
                  cells: list[tuple[str, int]]) -> tuple[str, str, int]:
    """Writes cells of one image; returns its name, the digest of its file and how many they are."""
    path = os.path.join(source, image)
    check_whole(path)
    data = Path(path).read_bytes()
    decoded = decode(data, f'image {shown(path)}', deep=True)
    kind = decoded.dtype
    if kind == np.uint8:
        peak = FULL[8]
    else:
        _check_format(path, settings['format'])
    try:
        decoded = to_grey_levels(decoded, peak)
    except ValueError as error:
        raise ValueError(f'{shown(path)} cannot be corrupted: {error}') from error
    swap = settings['channel_order'] == 'rgb'
    if swap:
        decoded = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    options = [cv2.IMWRITE_JPEG_QUALITY, settings['quality']] if 'quality' in settings else []
    for corruption, severity in cells:
        try:
            corrupted = corrupt(decoded, corruption, severity, family=settings['family'],
                                seed=image_seed(image, corruption, severity, settings['seed']))
        except ValueError as error:
            raise ValueError(f'{shown(path)}: {error}') from error
        if swap:
            corrupted = cv2.cvtColor(corrupted, cv2.COLOR_RGB2BGR)
        corrupted = from_grey_levels(corrupted, kind, peak)
        _, code = cv2.imencode(f'.{settings["format"]}', corrupted, options)
        write_bytes_atomically(Path(target, _place(corruption, severity, name)), code.tobytes())
    return image, content_digest(data), len(cells)
