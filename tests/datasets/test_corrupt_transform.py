import cv2
import numpy as np
import pytest
from mmengine.registry import TRANSFORMS
from torch.utils.data import DataLoader, Dataset

from mmrobust.corruptions import corrupt
from mmrobust.corruptions.seeding import image_seed
from mmrobust.datasets.transforms.corrupt import Corrupt, relative_path
from mmrobust.datasets.transforms.read_image import ImageDecodeError, ReadImage, find_corrupted


@pytest.fixture
def image():
    image = np.random.RandomState(0).randint(0, 256, (40, 48, 3)).astype(np.uint8)
    return cv2.GaussianBlur(image, (5, 5), 0)


def load(results):
    results['img'] = cv2.imread(results['img_path'])
    assert results['img'] is not None, f'failed to load image: {results["img_path"]}'
    return results


@pytest.mark.parametrize('order', ['rgb', 'bgr'])
def test_equals_the_corruption_of_the_image_in_the_named_order(image, order):
    transform = TRANSFORMS.build(dict(type='Corrupt', name='spatter', severity=4, seed=3,
                                      channel_order=order))
    path = 'data/val/aachen/a.png'
    out = transform(dict(img=image.copy(), img_path=path))['img']
    step = -1 if order == 'rgb' else 1  # the image comes as BGR
    expected = corrupt(np.ascontiguousarray(image[..., ::step]), 'spatter', 4,
                       seed=image_seed('aachen/a.png', 'spatter', 4, 3))[..., ::step]
    assert out.dtype == np.uint8 and out.flags.c_contiguous
    assert np.array_equal(out, expected)


def test_channel_order_matters_for_coloured_corruptions(image):
    rgb, bgr = (Corrupt('frost', 3, channel_order=order)(dict(img=image, img_path='a/b.png'))['img']
                for order in ('rgb', 'bgr'))
    assert not np.array_equal(rgb, bgr)


def test_depends_on_the_image_only(image):
    def draw(path, root=None, **kwargs):
        settings = dict(name='gaussian_noise', severity=3, root=root) | kwargs
        return Corrupt(**settings)(dict(img=image.copy(), img_path=path))['img']

    here = draw('/home/me/val/fog/a.png', '/home/me/val')
    np.random.seed(5)
    assert np.array_equal(here, draw('/mnt/other/val/fog/a.png', '/mnt/other/val/'))
    assert np.array_equal(here, draw('/elsewhere/fog/a.png'))
    for other in (draw('/home/me/val/fog/b.png', '/home/me/val'),
                  draw('/home/me/val/rain/a.png', '/home/me/val'),
                  draw('/home/me/val/fog/a.png', '/home/me/val', seed=1)):
        assert not np.array_equal(here, other)


@pytest.mark.parametrize('path, root, expected', [
    ('/d/val/city/a.png', '/d/val', 'city/a.png'), ('/d/val/a.png', '/d/val/', 'a.png'),
    ('d/../d/val/x/y/a.png', './d/val', 'x/y/a.png'), ('/d/value/a.png', '/d/val', 'value/a.png'),
    ('/d/val/city/a.png', None, 'city/a.png'), ('a.png', None, 'a.png')])
def test_relative_path(path, root, expected):
    assert relative_path(path, root) == expected


def test_images_without_a_path_float_and_grey_ones(image):
    transform = Corrupt('impulse_noise', 2)
    by_index = transform(dict(img=image, sample_idx=7))['img']
    assert np.array_equal(by_index, transform(dict(img=image, sample_idx=7))['img'])
    assert not np.array_equal(by_index, transform(dict(img=image, sample_idx=8))['img'])
    floating = transform(dict(img=image.astype(np.float32), sample_idx=7))['img']
    assert floating.dtype == np.float32 and np.array_equal(floating, by_index)
    for grey in (image[..., 0], image[..., :1]):
        assert transform(dict(img=grey, sample_idx=7))['img'].shape == grey.shape
    with pytest.raises(ValueError, match=r'three-channel image, but 7 has shape \(40, 48, 2\)'):
        transform(dict(img=image[..., :2], sample_idx=7))


@pytest.mark.parametrize('settings, message', [
    (dict(name='fogg', severity=1), "unknown corruption 'fogg': known are gaussian_noise"),
    (dict(name='fog', severity=6), 'severity 6 of fog: choose 1, 2, 3, 4 or 5'),
    (dict(name='fog', severity=0), 'severity 0 of fog'),
    (dict(name='fog', severity=1, channel_order='rbg'), "unknown channel order 'rbg'"),
    (dict(name='fog', severity=1, image_order='grey'), "unknown channel order 'grey'"),
    (dict(name='fog', severity=1, family='mnist'), "family of severities 'mnist': choose")])
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        Corrupt(**settings)


def test_reads_the_same_path_in_another_folder(image, tmp_path):
    for folder, value in (('clean', 10), ('c/fog/1', 20)):
        (tmp_path / folder / 'city').mkdir(parents=True)
        cv2.imwrite(str(tmp_path / folder / 'city/a.png'), np.full((4, 4, 3), value, np.uint8))
    path = str(tmp_path / 'clean/city/a.png')
    read = ReadImage(load, str(tmp_path / 'clean'), str(tmp_path / 'c/fog/1'))
    results = read(dict(img_path=path))
    assert results['img'].max() == 20 and results['img_path'] == path
    assert ReadImage(load)(dict(img_path=path))['img'].max() == 10


def test_other_suffix_and_missing_file(tmp_path):
    (tmp_path / 'city').mkdir()
    (tmp_path / 'city/a.jpg').touch()
    assert find_corrupted(str(tmp_path), 'city/a.png') == str(tmp_path / 'city/a.jpg')
    with pytest.raises(FileNotFoundError, match=r'city.b.png. does not exist: make the corrupted'):
        find_corrupted(str(tmp_path), 'city/b.png')


class Broken(Dataset):
    def __init__(self, path):
        self.path = path

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return ReadImage(load)(dict(img_path=self.path))['img']


@pytest.mark.parametrize('workers', [0, 1])
def test_undecodable_image_is_one_sentence_from_any_process(tmp_path, workers):
    path = tmp_path / 'a.png'
    path.write_bytes(b'no image')
    with pytest.raises(ImageDecodeError) as error:
        list(DataLoader(Broken(str(path)), num_workers=workers))
    assert str(error.value) == (f"image '{path}' cannot be decoded (failed to load image: {path}): "
                                'replace the file.')


def test_missing_image_and_a_loader_that_gives_none(tmp_path):
    def opening(results):
        open(results['img_path'])

    with pytest.raises(FileNotFoundError, match='gone.png'):
        ReadImage(opening)(dict(img_path=str(tmp_path / 'gone.png')))
    with pytest.raises(ImageDecodeError, match="image '.*x.png' cannot be decoded: replace"):
        (tmp_path / 'x.png').write_bytes(b'x')
        ReadImage(lambda results: None)(dict(img_path=str(tmp_path / 'x.png')))
