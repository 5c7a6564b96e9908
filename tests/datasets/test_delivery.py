"""How images are delivered: order of channels, value of white, and the way back."""
import cv2
import numpy as np
import pytest
from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmengine.dataset import BaseDataset

from mmrobust.datasets.delivery import delivery
from mmrobust.datasets.grey_levels import find_peak
from mmrobust.datasets.transforms.corrupt import Corrupt
from mmrobust.evaluation.pipeline_switch import PipelineSwitch
from mmrobust.evaluation.protocols import Cell

FOG = Cell('fog', 4, corruption=dict(name='fog', severity=4))


class Files(BaseDataset):
    def load_data_list(self):
        return [dict(img_path=path) for path in self.data_root.split(':')]


def picture(seed=0):
    small = np.random.RandomState(seed).randint(0, 256, (6, 8, 3)).astype(np.uint8)
    image = cv2.resize(small, (64, 48), interpolation=cv2.INTER_LINEAR)
    image[..., 2] = np.maximum(image[..., 2], 120)  # reddish, in BGR
    image[0, 0] = 255
    return image


@pytest.fixture
def path(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), picture())
    return str(tmp_path / 'a.png')


def files(path, *pipeline):
    return Files(data_root=path, pipeline=list(pipeline))


class MyReader(BaseTransform):
    """A loading step whose name says nothing, in RGB."""

    def transform(self, results):
        results['img'] = cv2.imread(results['img_path'])[..., ::-1]
        return results


@pytest.mark.parametrize('load, order', [
    (LoadImageFromFile(), 'bgr'), (LoadImageFromFile(imdecode_backend='pillow'), 'bgr'),
    (LoadImageFromFile(imdecode_backend='pillow', color_type='color_ignore_orientation'), 'bgr'),
    (LoadImageFromFile(color_type='unchanged'), 'bgr'), (MyReader(), 'rgb')])
def test_order_as_delivered(path, load, order):
    assert delivery(files(path), load).order == order


def test_tifffile_delivers_rgb(tmp_path):
    tifffile = pytest.importorskip('tifffile')
    path = str(tmp_path / 'a.tif')
    tifffile.imwrite(path, picture()[..., ::-1])
    load = LoadImageFromFile(imdecode_backend='tifffile', color_type='unchanged')
    assert delivery(files(path), load).order == 'rgb'


def test_grey_pictures_are_probed(tmp_path):
    path = str(tmp_path / 'a.png')
    cv2.imwrite(path, np.repeat(picture()[..., :1], 3, 2))
    assert delivery(files(path), LoadImageFromFile()).order == 'bgr'
    assert delivery(files(path), MyReader()).order == 'rgb'


def test_a_reader_of_any_name_is_found(path):
    dataset = files(path, MyReader())
    PipelineSwitch(dataset).switch(FOG)
    corruption = dataset.pipeline.transforms[1]
    assert isinstance(corruption, Corrupt) and corruption.image_order == 'rgb'
    reference = files(path, LoadImageFromFile())
    PipelineSwitch(reference).switch(FOG)
    assert np.array_equal(dataset[0]['img'], reference[0]['img'][..., ::-1])


@pytest.mark.parametrize('dtype, factor', [
    (np.uint16, 257), (np.float32, 1), (np.float32, 1 / 255), (np.float64, 1), (np.int32, 1),
    (np.uint16, 1), (np.float16, 1 / 255)])
def test_other_types_are_corrupted_in_grey_levels_and_come_back(dtype, factor):
    image = picture()
    scaled = (image.astype(np.float64) * factor).astype(dtype)
    peak = find_peak([scaled], 'X')
    corrupt = Corrupt('fog', 4, peak=peak)
    result = corrupt(dict(img=scaled, img_path='a.png'))['img']
    expected = Corrupt('fog', 4)(dict(img=image, img_path='a.png'))['img']
    assert result.dtype == dtype
    assert np.allclose(result, (expected * np.float64(factor)).astype(dtype), rtol=1e-3)
    if factor == 257:
        assert np.array_equal(result, expected.astype(np.uint16) * 257)


@pytest.mark.parametrize('image, message', [
    (np.full((40, 40, 3), 4000, np.uint16), 'uint16 with values from 4000 to 4000.* white'),
    (np.full((40, 40, 3), -1., np.float32), 'normalised before they could be corrupted'),
    (np.full((40, 40, 3), np.nan, np.float32), 'normalised'),
    (np.full((40, 40, 3), 3., np.float32), 'does not tell the value of white'),
    (np.full((40, 40, 3), 70000, np.int64), 'does not tell the value of white'),
    (np.ones((40, 40, 3), bool), 'are bool')])
def test_what_cannot_be_brought_to_grey_levels(image, message):
    with pytest.raises(ValueError, match=f'the images of X .*{message}'):
        find_peak([image], 'X')


def test_four_channels_are_refused(tmp_path):
    path = str(tmp_path / 'a.png')
    cv2.imwrite(path, np.full((40, 40, 4), 100, np.uint8))
    with pytest.raises(ValueError, match=r'shape \(40, 40, 4\): corruptions are for'):
        delivery(files(path), LoadImageFromFile(color_type='unchanged'))


def test_an_image_beyond_white_is_named():
    with pytest.raises(ValueError, match=r'b.png cannot be corrupted by fog: it holds float32 '
                                         r'values from 0 to 300 where .* 255 is white'):
        Corrupt('fog', 1)(dict(img=np.linspace(0, 300, 40 * 40 * 3, dtype=np.float32).reshape(
            40, 40, 3), img_path='b.png'))
    with pytest.raises(ValueError, match='b.png cannot be corrupted by fog: .*28 x 28'):
        Corrupt('fog', 1)(dict(img=np.zeros((28, 28, 3), np.uint8), img_path='b.png'))


def test_cifar_severities_need_cifar_images():
    with pytest.raises(ValueError, match="'cifar' are for images of 32 x 32, not 48 x 40"):
        Corrupt('fog', 1, family='cifar')(dict(img=np.zeros((40, 48, 3), np.uint8),
                                               img_path='b.png'))


def test_jpeg_of_the_published_files():
    from mmrobust.corruptions import recompress

    image = picture()
    plain = Corrupt('contrast', 1)(dict(img=image, img_path='a.png'))['img']
    saved = Corrupt('contrast', 1, jpeg_quality=85)(dict(img=image, img_path='a.png'))['img']
    rgb = np.ascontiguousarray(plain[..., ::-1])
    assert np.array_equal(saved, recompress(rgb, 85)[..., ::-1])
    assert not np.array_equal(saved, plain)
