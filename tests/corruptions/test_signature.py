import numpy as np
import pytest

from mmrobust.corruptions import NAMES, digital
from mmrobust.corruptions.signature import digest, picture, signature


def test_every_cell_has_its_own():
    cells = [signature(name, severity) for name in NAMES for severity in range(1, 6)]
    assert len(set(cells)) == len(cells)
    assert all(len(bytes.fromhex(cell)) == 8 for cell in cells)
    assert signature('fog', 1) != signature('fog', 1, 'cifar')


def test_another_encoder_shows(monkeypatch):
    before, original = signature('jpeg_compression', 3), digital.recompress
    monkeypatch.setattr(digital, 'recompress', lambda image, quality: original(image, quality + 1))
    signature.cache_clear()
    assert signature('jpeg_compression', 3) != before
    monkeypatch.undo()
    signature.cache_clear()
    assert signature('jpeg_compression', 3) == before


def test_digest_knows_pixels_and_shape():
    image = picture(33, 50)
    assert image.shape == (33, 50, 3) and image.dtype == np.uint8
    assert digest(image) == digest(np.asfortranarray(image))
    other = image.copy()
    other[-1, -1, 0] ^= 1
    assert digest(other) != digest(image) != digest(image.reshape(50, 33, 3))


def test_unknown():
    with pytest.raises(ValueError, match="Unknown corruption 'fogg': choose fog"):
        signature('fogg', 1)
