"""Image files of strangers: read whole or refused, with errors that name the file."""
import io
import os
import re
import stat
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageFile

KINDS = dict(img_path='image', seg_map_path='label map')  # of the entries of a pipeline's dict
ORIENTATION = 0x0112  # of EXIF; from 5 on width and height change places
# what tifffile and others say of a codec that is not installed
LACKING = re.compile(r"requires? (?:the )?'?([\w.-]+)'? (?:package|module|library)")
# formats whose pixels may be of more than 16 bits: TIFF, OpenEXR, Radiance, PFM
DEEP = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+', b'v/1\x01', b'#?', b'PF\n', b'Pf\n')


class ImageDecodeError(ValueError):
    """An image file that is missing, damaged or none at all.

    A data loader's worker hands an error on as text, with its traceback; only the last line of
    it, the sentence itself, is kept.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rstrip().splitlines()[-1].removeprefix(
            f'{__name__}.{type(self).__name__}: '))


def shown(path: Any) -> str:
    """A path in quotes as it can be printed, whatever bytes it is made of."""
    return repr(os.fsdecode(path))


def is_local(path: Any) -> bool:
    """Whether something is the path of a local file."""
    return isinstance(path, (str, os.PathLike)) and '://' not in str(path)


def check_whole(path: str, kind: str = 'image') -> None:
    """Make sure that a local file is there and not cut short.

    Decoders fill what is missing with grey, and some do so without a word. PNG files are checked
    by their checksums, JPEG files by their end mark, and what is unusual by decoding it. A file
    is read once, as long as it does not change.

    Args:
        path (str): The file.
        kind (str): What to call it in errors.

    Raises:
        FileNotFoundError: If there is none.
        ImageDecodeError: If it cannot be read, or is cut short or damaged.
    """
    try:
        state = os.stat(path)
        if not (stat.S_ISREG(state.st_mode) or stat.S_ISDIR(state.st_mode)):
            raise OSError(0, 'it is a pipe, a socket or a device')  # reading might never end
        problem = _problem(path, state.st_size, state.st_mtime_ns)
    except FileNotFoundError:
        raise FileNotFoundError(
            f'{kind} {shown(path)} does not exist: check data_root, data_prefix and the suffixes '
            'in the config.') from None
    except OSError as error:
        raise ImageDecodeError(
            f'{kind} {shown(path)} cannot be read ({error.strerror}): replace it.') from error
    if problem:
        raise ImageDecodeError(f'{kind} {shown(path)} {problem}: fetch or make it again.')


@lru_cache(maxsize=1 << 16)
def _problem(path: str, size: int, changed: int) -> str | None:
    with open(path, 'rb') as file:
        return damage(file.read())


def damage(data: bytes) -> str | None:
    """What is wrong with the content of an image file; nothing if it is whole or unknown."""
    if not data:
        return 'is empty'
    if data.startswith(b'\xff\xd8'):
        # compressed data hold no such marks; an earlier pair of them may be a thumbnail's
        if data.rfind(b'\xff\xd9') > data.rfind(b'\xff\xda'):
            return None
        data = data.rstrip(b'\0')  # room that was set apart for what never came
    elif data.startswith(b'\x89PNG\r\n\x1a\n'):
        if _chunks_are_sound(data):
            return None
    else:
        problem = _decoding_error(data)
        return 'is cut short' if problem and 'truncated' in problem else None
    return 'is cut short or damaged' if _decoding_error(data) else None


def _chunks_are_sound(data: bytes) -> bool:
    """Whether all chunks of a PNG file are there and have the right checksums."""
    place = 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place:place + 4], 'big')
        end = place + 12 + length
        if end > len(data):
            return False
        if zlib.crc32(data[place + 4:end - 4]) != int.from_bytes(data[end - 4:end], 'big'):
            return False
        if data[place + 4:place + 8] == b'IEND':
            return True
        place = end
    return False


def _decoding_error(data: bytes) -> str | None:
    """Why Pillow cannot decode an image to its end; nothing for a format that it does not know."""
    lenient, limit = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
    ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = False, None
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except Image.UnidentifiedImageError:
        return None
    except Exception as error:  # damaged bytes can raise anything
        return str(error) or type(error).__name__
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = lenient, limit
    return None


def header(path: str) -> tuple[tuple[int, int], bool] | None:
    """Width and height as stored, and whether EXIF wants them to change places.

    Returns:
        tuple, optional: Nothing for a format that Pillow does not know.
    """
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(path) as image:
            return image.size, image.getexif().get(ORIENTATION, 1) >= 5
    except Exception:  # damaged bytes can raise anything; the loader will say
        return None
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def read_image(path: str, kind: str = 'image') -> np.ndarray:
    """An image as the host libraries' loading transforms read it unless told otherwise.

    Colours from whatever the file has (palette, grey, CMYK, 16 bits of which 8 are kept), no
    alpha, the first of several pictures, upright as EXIF says.

    Args:
        path (str): The file; its name need not be text.
        kind (str): What to call it in errors.

    Returns:
        np.ndarray: (H, W, 3), uint8, BGR.

    Raises:
        FileNotFoundError: If there is none.
        ImageDecodeError: If it is damaged, no image, or of values that 8 bits do not hold.
    """
    check_whole(path, kind)
    with open(path, 'rb') as file:  # cv2.imread takes no names that are not UTF-8
        return decode(file.read(), f'{kind} {shown(path)}')


def decode(data: bytes, what: str, deep: bool = False) -> np.ndarray:
    """An image (H, W, 3), BGR, of the content of a file; see :func:`read_image`.

    Args:
        data (bytes): The content.
        what (str): What to call it in errors.
        deep (bool): Whether to keep 16 bits (uint16) where the file has them.
            Defaults to False: uint8.
    """
    buffer = np.frombuffer(data, np.uint8)
    try:
        if data.startswith(DEEP):
            pixels = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
            if pixels is not None and pixels.dtype not in (np.uint8, np.uint16):
                raise ImageDecodeError(
                    f'{what} holds {pixels.dtype} values, which 8 bits cannot hold without a '
                    'choice of their range: convert it to 8 bits.')
        image = cv2.imdecode(
            buffer, cv2.IMREAD_COLOR | (cv2.IMREAD_ANYDEPTH if deep else 0))
    except cv2.error as error:
        raise ImageDecodeError(f'{what} cannot be decoded as an image ({_first_line(error)}): '
                               'replace or remove it.') from error
    if image is None:
        raise ImageDecodeError(f'{what} cannot be decoded as an image: replace or remove it.')
    return image


def load_named(load: Callable, results: dict, key: str = 'img_path') -> dict | None:
    """Run a loading transform of the host libraries; whatever fails names the file.

    Args:
        load (Callable): The transform.
        results (dict): As in a pipeline.
        key (str): Entry with the path that it reads: ``'img_path'`` or ``'seg_map_path'``.

    Raises:
        FileNotFoundError: If the file is missing.
        ImageDecodeError: If it is damaged or none that the transform can read.
    """
    path, kind = results.get(key), KINDS[key]
    if not is_local(path):
        return load(results)
    try:
        if (getattr(load, 'backend_args', None) or {}).get('backend', 'local') == 'local' \
                and getattr(load, 'file_client_args', None) is None:
            check_whole(path, kind)
        return load(results)
    except (FileNotFoundError, ImageDecodeError, ImportError, KeyError, MemoryError):
        raise
    except Exception as error:  # damaged bytes can raise anything
        lacking = LACKING.search(str(error))
        remedy = f'install {lacking[1]}, or convert' if lacking else 'replace'
        raise ImageDecodeError(
            f'{kind} {shown(path)} cannot be decoded ({_first_line(error)}): {remedy} the file.'
        ) from error


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
