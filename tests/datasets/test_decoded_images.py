"""Decoded images that are kept: the same pixels for every process, within their limit."""
import copy
import multiprocessing
import pickle

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from torch.utils.data import DataLoader, Dataset

from mmrobust.datasets.decoded_images import DecodedImages
from mmrobust.datasets.images import ImageDecodeError
from mmrobust.datasets.transforms.read_image import ReadImage


class Images(Dataset):
    """Reads images, and says which of them it decoded."""

    def __init__(self, paths, keeper):
        self.paths = paths
        self.step = ReadImage(LoadImageFromFile(), decoded=keeper)

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return self.step(dict(img_path=self.paths[index], sample_idx=index))


@pytest.fixture
def paths(tmp_path):
    names = [str(tmp_path / f'{i}.png') for i in range(5)]
    for i, name in enumerate(names):
        cv2.imwrite(name, np.random.default_rng(i).integers(0, 255, (20 + i, 30, 3), np.uint8))
    return names


def _first(batch):
    return batch[0]


@pytest.mark.parametrize('method', ['fork', 'spawn'])
@pytest.mark.parametrize('workers', [1, 3])
def test_workers_share_what_one_of_them_decoded(paths, method, workers):
    expected = [cv2.imread(path) for path in paths]
    images = Images(paths, DecodedImages(5, 1e6))
    loader = DataLoader(images, num_workers=workers, collate_fn=_first,
                        multiprocessing_context=multiprocessing.get_context(method))
    for number in range(2):
        loaded = list(loader)
        assert all(map(np.array_equal, (one['img'] for one in loaded), expected)), number
        assert [one['ori_shape'] for one in loaded] == [image.shape[:2] for image in expected]
        for path in paths:  # the second time nothing is read from the files
            cv2.imwrite(path, np.zeros((2, 2, 3), np.uint8))
    images[0]['img'][:] = 0  # an image that a cell changes is not the one that is kept
    assert np.array_equal(images[0]['img'], expected[0])


def test_what_does_not_fit_is_decoded_again(paths):
    keeper = DecodedImages(5, 5000)
    images = Images(paths, keeper)
    assert not keeper.full
    before = [images[i]['img'] for i in range(5)]
    assert keeper.full
    for path in paths:
        cv2.imwrite(path, np.zeros((2, 2, 3), np.uint8))
    kept = [np.array_equal(images[i]['img'], before[i]) for i in range(5)]
    assert kept == [True, True, False, False, False]


def test_a_damaged_image_is_told_each_time_and_mended_ones_are_read(paths):
    good = open(paths[0], 'rb').read()
    open(paths[0], 'wb').write(good[:-40])
    images = Images(paths, DecodedImages(5, 1e6))
    for _ in range(2):
        with pytest.raises(ImageDecodeError, match='is cut short or damaged'):
            images[0]
    open(paths[0], 'wb').write(good)
    assert images[0]['img'].shape == (20, 30, 3)


def test_only_loading_that_is_known_is_kept():
    class LoadNoisyImage(LoadImageFromFile):
        pass

    assert DecodedImages.suits(LoadImageFromFile())
    assert not DecodedImages.suits(LoadNoisyImage())


def test_without_a_place_to_write_and_in_copies_images_are_decoded(paths, monkeypatch):
    def fail():
        raise OSError(28, 'No space left on device')

    copied = [copy.deepcopy(DecodedImages(5, 1e6)),
              pickle.loads(pickle.dumps(DecodedImages(5, 1e6)))]
    monkeypatch.setattr('tempfile.TemporaryFile', fail)
    for keeper in (DecodedImages(5, 1e6), *copied):
        images = Images(paths, keeper)
        assert images[1]['img'].shape == images[1]['img'].shape == (21, 30, 3)
        assert not keeper.full
