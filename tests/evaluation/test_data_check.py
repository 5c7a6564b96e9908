"""`mmrobust check`: what a data set holds, and what is wrong with it, without a model."""
import shutil

import numpy as np
import pytest
import yaml
from mmengine.registry import init_default_scope
from PIL import Image

from mmrobust.apis import load_config
from mmrobust.evaluation.data_check import check_data
from mmrobust.evaluation.protocols import get_protocol


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


@pytest.fixture
def config(tmp_path):
    """Two images in the layout of Cityscapes, and the config that reads them."""
    for name in ('frankfurt_000000_000000', 'frankfurt_000001_000000'):
        labels = np.zeros((32, 64), np.uint8)
        labels[:8], labels[-1] = 10, 255
        write(tmp_path / f'leftImg8bit/val/frankfurt/{name}_leftImg8bit.png',
              np.zeros((32, 64, 3), np.uint8))
        write(tmp_path / f'gtFine/val/frankfurt/{name}_gtFine_labelTrainIds.png', labels)
    cfg = load_config('fan_t_cityscapes')
    cfg.test_dataloader.dataset.data_root = str(tmp_path)
    cfg.train_dataloader = cfg.val_dataloader = None
    return cfg


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def label_map(tmp_path):
    return next(tmp_path.glob('gtFine/val/frankfurt/*_000001_*'))


def test_images_and_classes_are_counted_and_what_is_ignored_is_not(config):
    assert list(check_data(config)) == [
        'test_dataloader: CityscapesDataset, 2 images, 2 of 19 classes occur']
    assert list(check_data(config, get_protocol('cityscapes-c'))) == [
        'the test data: CityscapesDataset, 2 images, 2 of 19 classes occur']


def test_labels_that_are_no_classes_are_named(config, tmp_path):
    write(label_map(tmp_path), np.full((32, 64), 26, np.uint8))
    with pytest.raises(ValueError, match=r'frankfurt_000001.*labels up to 26.*labelTrainIds'):
        list(check_data(config))


def test_a_label_map_of_another_size_is_named(config, tmp_path):
    write(label_map(tmp_path), np.zeros((16, 64), np.uint8))
    with pytest.raises(ValueError, match='frankfurt_000001.*same size'):
        list(check_data(config))


def test_missing_folders_and_files_are_named(config, tmp_path):
    label_map(tmp_path).unlink()
    with pytest.raises(FileNotFoundError, match='frankfurt_000001.*does not exist'):
        list(check_data(config))
    shutil.rmtree(tmp_path / 'gtFine')
    with pytest.raises(FileNotFoundError, match=r'test_dataloader: seg_map_path=.*is not there'):
        list(check_data(config))


def test_a_benchmark_is_asked_for_its_own_data(config, tmp_path):
    for condition in ('fog', 'night', 'rain', 'snow'):
        write(tmp_path / f'rgb_anon/{condition}/val/GOPR1/a_rgb_anon.png',
              np.zeros((32, 64, 3), np.uint8))
        write(tmp_path / f'gt/{condition}/val/GOPR1/a_gt_labelTrainIds.png',
              np.full((32, 64), 3, np.uint8))
    assert list(check_data(config, get_protocol('acdc', data_root=str(tmp_path)))) == [
        'acdc: ACDCDataset, 4 images, 1 of 19 classes occur']


def test_the_index_for_mim_names_the_folders_of_the_configs(repo):
    index = yaml.safe_load((repo / 'dataset-index.yml').read_text('utf-8'))
    for name, config in (('cityscapes', 'fan_t_cityscapes'), ('imagenet1k', 'fan_t_imagenet')):
        assert index[name]['data_root'] == load_config(config).test_dataloader.dataset.data_root
