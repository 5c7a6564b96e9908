"""One reader for image files: whole or refused, and as the host libraries' loaders read."""
import io
import os

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from PIL import Image, ImageFile

from mmrobust.datasets.images import ImageDecodeError, check_whole, damage, read_image

RNG = np.random.default_rng(0)
PIXELS = cv2.resize(RNG.integers(0, 256, (30, 40, 3), dtype=np.uint8), (160, 120))


def encoded(kind, mode='RGB', **options):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def with_thumbnail():
    """A JPEG file whose EXIF data hold a smaller one, with an end mark of its own."""
    thumbnail = encoded('JPEG', quality=20)
    payload = b'Exif\0\0' + thumbnail
    data = encoded('JPEG')
    return data[:2] + b'\xff\xe1' + (len(payload) + 2).to_bytes(2, 'big') + payload + data[2:]


FILES = {
    'JPEG': encoded('JPEG'), 'progressive JPEG': encoded('JPEG', progressive=True),
    'grey JPEG': encoded('JPEG', 'L'), 'JPEG with a thumbnail': with_thumbnail(),
    'PNG': encoded('PNG'), 'palette PNG': encoded('PNG', 'P'), 'BMP': encoded('BMP'),
    'WebP': encoded('WEBP'), 'PPM': encoded('PPM'),
}


@pytest.mark.parametrize('kind', FILES)
@pytest.mark.parametrize('lenient', [False, True])
def test_files_cut_anywhere_are_refused_or_cannot_be_decoded(tmp_path, kind, lenient, monkeypatch):
    monkeypatch.setattr(ImageFile, 'LOAD_TRUNCATED_IMAGES', lenient)
    path = tmp_path / 'a'
    path.write_bytes(FILES[kind])
    assert read_image(path).shape == (120, 160, 3)
    for share in (.99, .85, .5, .2, .01):
        cut = FILES[kind][:int(share * len(FILES[kind]))]
        padding = bytes(len(FILES[kind]) - len(cut)) if 'JPEG' in kind or 'PNG' in kind else b''
        for content in (cut, cut + padding):  # also a download into room that was set apart
            path.write_bytes(content)
            with pytest.raises(ImageDecodeError, match=r"'.*/a' (is cut short|cannot be dec)"):
                read_image(path)


def test_damage_within_a_png_and_what_may_follow():
    data = bytearray(FILES['PNG'])
    data[len(data) // 2] ^= 255
    assert damage(bytes(data)) == 'is cut short or damaged'
    for whole in (FILES['JPEG'] + bytes(5000), FILES['PNG'] + b'more',
                  b'no image'):
        assert damage(whole) is None  # or left to the loader


@pytest.mark.parametrize('content', [b'', b'<!DOCTYPE html>', b'\xff\xd8', b'\x89PNG\r\n\x1a\n'])
def test_what_is_no_image(tmp_path, content):
    path = tmp_path / os.fsdecode(b'stra\xdfe\n.jpg')
    path.write_bytes(content)
    with pytest.raises(ImageDecodeError, match=r"image '.*stra\\udcdfe\\n\.jpg'") as error:
        read_image(path)
    str(error.value).encode()  # can be printed


def test_places_that_are_no_file(tmp_path):
    (tmp_path / 'x.png').mkdir()
    (tmp_path / 'loop.png').symlink_to(tmp_path / 'loop.png')
    with pytest.raises(ImageDecodeError, match=r"x\.png' cannot be read \(Is a directory\)"):
        check_whole(tmp_path / 'x.png')
    with pytest.raises(ImageDecodeError, match=r"loop\.png' cannot be read"):
        check_whole(tmp_path / 'loop.png')
    with pytest.raises(FileNotFoundError, match=r"y\.png' does not exist"):
        check_whole(tmp_path / 'y.png')


def test_a_file_that_changes_is_read_again(tmp_path):
    path = tmp_path / 'a.jpg'
    path.write_bytes(FILES['JPEG'])
    check_whole(path)
    path.write_bytes(FILES['JPEG'][:-100])
    with pytest.raises(ImageDecodeError, match='cut short'):
        check_whole(path)


def rotated():
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded('JPEG', exif=exif)


def deep(kind, dtype):
    pixels = PIXELS.astype(dtype) * (257 if dtype == np.uint16 else 1)
    return cv2.imencode(kind, pixels)[1].tobytes()


@pytest.mark.parametrize('content', [
    *FILES.values(), encoded('PNG', 'RGBA'), encoded('PNG', 'LA'), encoded('PNG', '1'),
    encoded('JPEG', 'CMYK'), encoded('TIFF'), rotated(), deep('.png', np.uint16),
    deep('.tiff', np.uint16),
    encoded('PNG', save_all=True, append_images=[Image.new('RGB', (160, 120))])])
def test_reads_as_the_loading_transform_does(tmp_path, content):
    path = tmp_path / 'a'
    path.write_bytes(content)
    expected = LoadImageFromFile()(dict(img_path=str(path)))['img']
    np.testing.assert_array_equal(read_image(path), expected)


def test_sixteen_bits_are_not_clipped(tmp_path):
    (tmp_path / 'a.png').write_bytes(deep('.png', np.uint16))
    np.testing.assert_array_equal(read_image(tmp_path / 'a.png'), PIXELS)


def test_values_without_a_range_are_refused(tmp_path):
    (tmp_path / 'a.tiff').write_bytes(deep('.tiff', np.float32))
    with pytest.raises(ImageDecodeError, match=r"a\.tiff' holds float32 values.*convert it"):
        read_image(tmp_path / 'a.tiff')
