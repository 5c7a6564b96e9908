"""The embedded data set, through the host library's own loading and packing."""
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.fileio import get
from mmengine.registry import DATASETS, DefaultScope

import mmrobust  # noqa: F401
from mmrobust.datasets.transforms.corrupt import Corrupt

pytest.importorskip('mmseg')
CONFIG = Path(__file__).parents[2] / 'configs/_base_/datasets/synthetic_streets.py'
LOADING = [dict(type='LoadImageFromFile'), dict(type='mmseg.LoadAnnotations'),
           dict(type='mmseg.PackSegInputs')]


def build(**kwargs):
    return DATASETS.build(dict(type='SyntheticStreets', pipeline=LOADING, **kwargs))


def test_sample():
    dataset = build(split='val', num_samples=13, image_size=(96, 64))
    assert len(dataset) == 13
    assert len(dataset.metainfo['classes']) == len(dataset.metainfo['palette']) == 19
    item = dataset[12]
    assert item['inputs'].shape == (3, 64, 96) and item['inputs'].dtype.itemsize == 1
    labels = item['data_samples'].gt_sem_seg.data
    assert labels.shape == (1, 64, 96)
    assert labels.max() < 19 and len(labels.unique()) > 5
    meta = item['data_samples'].metainfo
    assert meta['ori_shape'] == meta['img_shape'] == (64, 96)
    assert meta['img_path'] == 'synthetic_streets://96x64/seed0/val/image/000012.png'


def test_default_lengths():
    assert len(build(split='train')) == 400
    assert len(build(split='val')) == 60


def _read(path):
    return get(path)


def test_the_same_in_any_process_and_order():
    import mmrobust.demo.synthetic_streets as module
    paths = [f'synthetic_streets://128x64/seed3/train/image/{i:06d}.png' for i in (5, 0, 9)]
    here = [get(path) for path in paths]
    module._files.cache_clear()
    with multiprocessing.get_context('fork').Pool(1) as pool:
        there = pool.map(_read, paths[::-1])
    assert here == there[::-1]


def test_scenes_differ_by_index_split_and_seed():
    names = ('seed0/train/image/000000', 'seed0/train/image/000001', 'seed0/val/image/000000',
             'seed1/train/image/000000')
    assert len({get(f'synthetic_streets://64x32/{name}.png') for name in names}) == 4


def test_every_class_occurs_and_none_fills_the_picture():
    dataset = build(num_samples=48)
    shares = np.mean([np.bincount(item['data_samples'].gt_sem_seg.data.flatten().numpy(),
                                  minlength=19) for item in dataset], axis=0) / (256 * 128)
    assert shares.shape == (19,)  # nothing is ignored
    assert shares.min() > 0
    assert shares.max() < 0.5


def test_labels_follow_the_picture_at_any_size():
    """Sky is found above the street: the rows of both are not mixed up or mirrored."""
    for width, height in ((64, 64), (300, 90)):
        item = build(num_samples=1, image_size=(width, height))[0]
        labels = item['data_samples'].gt_sem_seg.data[0]
        rows = labels.nonzero()[:, 0].float()
        assert (labels == 0).nonzero()[:, 0].float().mean() > rows.mean()
        assert (labels == 10).nonzero()[:, 0].float().mean() < rows.mean()


def test_subset_of_classes():
    dataset = build(num_samples=2, metainfo=dict(classes=('road', 'sky')))
    assert set(dataset[0]['data_samples'].gt_sem_seg.data.unique().tolist()) <= {0, 1, 255}


@pytest.mark.parametrize(('arguments', 'message'), [
    (dict(split='trian'), "unknown split 'trian' .* train, val, test"),
    (dict(num_samples=0), 'num_samples must be a positive integer, got 0'),
    (dict(image_size=(256, 0)), r'image_size must be two positive integers.*got \(256, 0\)'),
    (dict(image_size=(256,)), 'image_size must be two positive integers'),
    (dict(image_size=(25.6, 12)), 'image_size must be two positive integers'),
    (dict(seed=-1), 'seed must be an integer of 0 or more, got -1'),
])
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**arguments)


def test_index_out_of_range():
    dataset = build(num_samples=3, image_size=(32, 32))
    assert dataset[-1]['data_samples'].img_path.endswith('000002.png')
    with pytest.raises(IndexError, match='scene 3 of SyntheticStreets, which has 3 scenes'):
        dataset[3]


@pytest.mark.parametrize('path', ['256x128/seed0/val/000001.png', '256x128/seed0/all/image/1.png'])
def test_path_of_no_scene(path):
    with pytest.raises(FileNotFoundError, match='is no synthetic street scene: paths look like'):
        get(f'synthetic_streets://{path}')


def test_ground_truth_keeps_its_size_under_multi_scale_testing():
    config = Config.fromfile(CONFIG)
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = DATASETS.build(dict(config.test_dataloader.dataset, num_samples=1,
                                      pipeline=config.tta_pipeline))
    item = dataset[0]
    assert len(item['inputs']) == 6
    assert {tuple(sample.gt_sem_seg.data.shape) for sample in item['data_samples']} == {
        (1, 128, 256)}


def test_corruption_after_loading():
    transform = Corrupt('gaussian_noise', 5)
    dataset = DATASETS.build(dict(type='SyntheticStreets', num_samples=2,
                                  pipeline=[LOADING[0], transform, *LOADING[1:]]))
    clean = build(num_samples=2)[1]['inputs'].float()
    noisy = [dataset[1]['inputs'].float() for _ in range(2)]
    assert (noisy[0] == noisy[1]).all()
    assert (noisy[0] - clean).abs().mean() > 15
