"""What does not fit is said before the first cell, and costs nothing."""
import shutil

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmrobust.datasets.corrupted_copy import write_corrupted_copies


@pytest.fixture
def cfg(segmenter):
    return Config.fromfile(segmenter)


@pytest.fixture
def refused(benchmark, cfg, tmp_path):
    """Run a benchmark that must be refused before anything is written."""
    def run(message, name='fog', **options):
        with pytest.raises(ValueError, match=message) as error:
            benchmark(name, cfg=cfg, severities=1, **options)
        assert '\n' not in str(error.value)
        assert not (tmp_path / 'out/results.json').exists()

    return run


@pytest.fixture
def copied(cfg, scenes, tmp_path):
    """The scenes in a folder of their own, to be changed."""
    shutil.copytree(scenes, tmp_path / 'scenes')
    cfg.test_dataloader.dataset.data_root = str(tmp_path / 'scenes')
    return tmp_path / 'scenes'


def relabel(root, change):
    for path in (root / 'gtFine').rglob('*.png'):
        cv2.imwrite(str(path), change(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))


def test_labels_of_other_classes(refused, copied):
    relabel(copied, lambda label: np.where(label == 13, 26, label))
    refused(r'label map .*gtFine_labelTrainIds.png holds labels up to 26 \(26\), the model has 19')


def test_label_maps_in_colour(refused, copied):
    relabel(copied, lambda label: cv2.merge([label] * 3))
    refused(r'label map .* a picture of colours')


def test_labels_that_the_metric_does_not_ignore(refused, copied, cfg):
    relabel(copied, lambda label: np.where(label == 13, 255, label))
    cfg.test_evaluator.ignore_index = 254
    refused('holds labels up to 255 .*254 does not count')


def test_a_config_without_labels(refused, cfg):
    del cfg.test_dataloader.dataset.pipeline[2]
    refused("loads no labels .*: add dict\\(type='LoadAnnotations'\\)")


def test_a_metric_that_does_not_exist(refused, cfg):
    cfg.test_evaluator.iou_metrics = ['mFoo']
    refused('the metric IoUMetric on the answer of the model: .*mFoo.*correct test_evaluator')


def test_a_metric_that_is_not_reported(refused):
    refused("no metric 'top1': choose from aAcc", metric='top1')


@pytest.mark.parametrize('name', ['imagenet-c', 'imagenet-c-extra', 'cifar10-c', 'cifar100-c',
                                  'robustness'])
def test_a_segmenter_on_a_benchmark_of_classifiers(refused, name):
    refused(f'{name} needs a classifier, this model is a segmenter: choose cityscapes-c', name)


def test_a_model_of_other_classes(refused, cfg):
    cfg.model.decode_head.num_classes = 150
    refused('clean needs a model with the 19 classes of CityscapesDataset, this one has 150 out',
            checkpoint=None)


def test_small_images(refused, copied):
    for path in copied.rglob('*.png'):
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[:28, :28])
    refused('a_0_leftImg8bit.png cannot be corrupted by fog: .*28 x 28')


def test_ready_made_images_of_another_size(refused, scenes, tmp_path):
    write_corrupted_copies(str(scenes / 'leftImg8bit/val'), str(tmp_path / 'c'), ['fog'], [1])
    for path in (tmp_path / 'c').rglob('*.png'):
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (80, 60)))
    refused(r'ready-made image .*png.? is 80 x 60 pixels, the image that it was made of, .* has 64',
            corrupted_root=str(tmp_path / 'c'))


def test_a_model_that_does_not_take_what_the_pipeline_gives(refused, cfg):
    cfg.model.decode_head.in_channels = 9
    refused('the model on an image of 64 x 48 .uint8., as the test pipeline gives it for clean: ',
            checkpoint=None)


def test_sixteen_bits_are_corrupted_as_eight(benchmark, cfg, copied, tmp_path):
    _, eight = benchmark('fog', severities=3, cfg=Config(cfg._cfg_dict.to_dict()), out_dir='eight')
    for path in (copied / 'leftImg8bit').rglob('*.png'):
        cv2.imwrite(str(path), cv2.imread(str(path)).astype(np.uint16) * 257)
    cfg.test_dataloader.dataset.pipeline[0].color_type = 'unchanged'
    preprocessor = cfg.model.data_preprocessor
    for key in ('mean', 'std'):
        preprocessor[key] = [257 * value for value in preprocessor[key]]
    try:
        torch.zeros(1, dtype=torch.uint16)[[0]]
    except (AttributeError, RuntimeError):  # torch has no such type, or cannot do much with it
        with pytest.raises(ValueError, match='uint16'):
            benchmark('fog', severities=3, cfg=cfg, out_dir='sixteen')
        assert not list((tmp_path / 'sixteen').rglob('results.json'))
        return
    _, sixteen = benchmark('fog', severities=3, cfg=cfg, out_dir='sixteen')
    for a, b in zip(eight['cells'], sixteen['cells'], strict=True):
        assert a['metrics']['mIoU'] == pytest.approx(b['metrics']['mIoU'], abs=0.5)


def test_labels_are_looked_at_in_every_batch(benchmark, cfg, copied, tmp_path):
    """A label map that the look before the first cell did not read."""
    for i in range(3, 7):
        for path in sorted(copied.rglob('a_0_*')):
            shutil.copy(path, path.with_name(path.name.replace('a_0', f'a_{i}')))
    bad = next((copied / 'gtFine').rglob('a_2_*'))
    cv2.imwrite(str(bad), np.full((48, 64), 77, np.uint8))
    with pytest.raises(ValueError, match=f'label map {bad} holds labels up to 77'):
        benchmark('fog', severities=1, cfg=cfg)
