"""Reading images for a benchmark: from another folder if asked, and with errors that name them."""
import os
import os.path as osp
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from PIL import Image

from mmrobust.datasets.decoded_images import DecodedImages
from mmrobust.datasets.images import ImageDecodeError, load_named, shown

from .corrupt import relative_path

ORIENTATION = 0x0112  # of EXIF; above 4 width and height change places
SUFFIXES = ('.png', '.jpg', '.jpeg', '.JPEG', '.JPG', '.PNG')


@lru_cache(maxsize=4096)
def _names(folder: str) -> frozenset[str]:
    return frozenset(os.listdir(folder)) if osp.isdir(folder) else frozenset()


def find_corrupted(folder: str, relative: str) -> str:
    """The file of one image in the folder of a cell; its suffix may differ.

    Raises:
        FileNotFoundError: If there is none.
    """
    path = osp.join(folder, relative)
    names = _names(osp.dirname(path))
    stem, suffix = osp.splitext(osp.basename(path))
    for candidate in (suffix, *SUFFIXES):
        if stem + candidate in names:
            return osp.join(osp.dirname(path), stem + candidate)
    raise FileNotFoundError(
        f'{shown(path)} does not exist: make the corrupted copy complete, or leave out its folder '
        f'to corrupt on the fly.')


class ReadImage:
    """A loading transform, reading from the folder of a cell where one is given.

    Args:
        load (Callable): The pipeline's own loading transform.
        root (str): Folder of the original images.
        folder (str, optional): Folder that holds the same relative paths.
        size (tuple[int, int], optional): Height and width that ready-made images must have.
            Defaults to those of the original for the images in ``folder``.
        decoded (DecodedImages, optional): Keeps the original images for the next cells.

    Raises:
        FileNotFoundError: If the file is not there.
        ImageDecodeError: If it is damaged or cannot be decoded.
        ValueError: If a ready-made image has another size.
    """

    def __init__(self, load: Callable, root: str | None = None,
                 folder: str | None = None, size: tuple[int, int] | None = None,
                 decoded: DecodedImages | None = None) -> None:
        self.size = size
        self._decoded = None if folder else decoded
        self.load = load
        self.root = root
        self.folder = folder
        self._compared = False  # with the kind of the original

    def __call__(self, results: dict) -> dict:
        original = results.get('img_path')
        if self.folder:
            results['img_path'] = find_corrupted(
                self.folder, relative_path(original, self.root))
        path = results.get('img_path')
        loaded = (self._decoded.load(self.load, results) if self._decoded else
                  load_named(self.load, results))
        if loaded is None:
            raise ImageDecodeError(f'image {shown(path)} cannot be decoded: replace the file.')
        if self.folder or self.size:
            self._check_size(loaded['img'], path, original)
            if self.folder and not self._compared and osp.isfile(original):
                self._check_kind(loaded['img'], path, {**results, 'img_path': original})
            loaded['img_path'] = original
        return loaded

    def _check_size(self, image: np.ndarray, path: str, original: str) -> None:
        there, wanted, what = image.shape[:2], self.size, 'this benchmark needs'
        if wanted is None and osp.isfile(original):
            with Image.open(original) as header:
                wanted = header.size[::-1]
                if there == header.size and header.getexif().get(ORIENTATION, 1) > 4:
                    return  # the copy was made of the upright image
            what = f'the image that it was made of, {shown(original)}, has'
        if wanted is not None and there != tuple(wanted):
            raise ValueError(
                f'the ready-made image {shown(path)} is {there[1]} x {there[0]} pixels, {what} '
                f'{wanted[1]} x {wanted[0]}: make the corrupted copy of the images of this data '
                f'set, or leave out its folder to corrupt on the fly.')

    def _check_kind(self, image: np.ndarray, path: str, results: dict) -> None:
        """Once: what normalises 16 bits or one channel takes no 8 bits or three for them."""
        original = load_named(self.load, results)['img']
        kinds = [f'{array.dtype} with {array.shape[2] if array.ndim > 2 else 1} channels'
                 for array in (image, original)]
        if kinds[0] != kinds[1]:
            raise ValueError(
                f'the ready-made image {shown(path)} is loaded as {kinds[0]}, the image that it '
                f'was made of, {shown(results["img_path"])}, as {kinds[1]}: make the corrupted '
                f'copy in the form of the images, or leave out its folder to corrupt on the fly.')
        self._compared = True

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.load!r}, folder={self.folder!r})'
