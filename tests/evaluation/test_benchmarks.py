"""Benchmarks beyond Cityscapes-C, each run on small data in its real layout."""
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config

CLASSIFICATION = '''
default_scope = 'mmpretrain'
custom_imports = dict(imports=['mmrobust'])
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True),
    backbone=dict(type='ResNet', depth=18, base_channels=4, stem_channels=4, num_stages=1,
                  strides=(1,), dilations=(1,), out_indices=(0,)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=4, topk=(1,),
              loss=dict(type='CrossEntropyLoss')))
test_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CustomDataset', data_prefix={root!r}, pipeline=[
        dict(type='LoadImageFromFile'), dict(type='ResizeEdge', scale=64, edge='short'),
        dict(type='CenterCrop', crop_size=64), dict(type='PackInputs')]))
test_evaluator = dict(type='Accuracy', topk=(1,))
test_cfg = dict()
'''


@pytest.fixture
def classifier(tmp_path) -> Config:
    """A foreign classification config with images of two classes."""
    rng = np.random.RandomState(0)
    for label in ('n01', 'n02'):
        (tmp_path / 'val' / label).mkdir(parents=True)
        for i in range(2):
            image = cv2.resize(rng.randint(0, 256, (6, 8, 3)).astype(np.uint8), (300, 260))
            cv2.imwrite(
                str(tmp_path / 'val' / label / f'{i}.jpg'), image)
    path = tmp_path / 'small_classifier.py'
    path.write_text(CLASSIFICATION.format(root=str(tmp_path / 'val')))
    return Config.fromfile(path)


def watch_inputs(monkeypatch):
    """Shapes of the model's inputs, cell by cell."""
    from mmrobust.evaluation.loop import CorruptionTestLoop
    shapes, run_iter = [], CorruptionTestLoop.run_iter

    def watching(self, idx, batch):
        shapes.append(tuple(batch['inputs'][0].shape))
        run_iter(self, idx, batch)

    monkeypatch.setattr(CorruptionTestLoop, 'run_iter', watching)
    return shapes


def test_imagenet_c_on_a_foreign_classifier(benchmark, classifier, monkeypatch, tmp_path):
    shapes = watch_inputs(monkeypatch)
    numbers, results = benchmark('imagenet-c', corruptions='fog,contrast', severities=[1, 5],
                                 cfg=classifier, checkpoint=None, show_dir=str(tmp_path / 'show'))
    assert results['metric'] == 'accuracy/top1' and results['finished'] == 5
    assert set(numbers) == {'P', 'mPC_finished'}
    # corrupted at 224, then resized to what the model takes, and the clean images likewise
    assert shapes == [(3, 64, 64)] * 10
    assert len(list((tmp_path / 'show').rglob('*.png'))) == 5 * 4


def test_cifar_severities_on_a_foreign_classifier(benchmark, classifier, tmp_path):
    with pytest.raises(ValueError, match="family 'cifar' are for images of 32 x 32, not 300 x 260"):
        benchmark('cifar10-c', corruptions='brightness', severities=2, cfg=classifier,
                  checkpoint=None)
    assert not (tmp_path / 'out/results.json').exists()  # not even the clean cell was tested
    for path in (tmp_path / 'val').rglob('*.jpg'):
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (32, 32)))
    _, results = benchmark('cifar10-c', corruptions='brightness', severities=2, cfg=classifier,
                           checkpoint=None)
    assert results['finished'] == 2 and results['summary']['mean_error'] is None


@pytest.fixture
def acdc(scenes, tmp_path) -> Path:
    """ACDC's layout with the small scenes in it."""
    images = sorted((scenes / 'leftImg8bit').rglob('*.png'))
    labels = sorted((scenes / 'gtFine').rglob('*.png'))
    for condition in ('fog', 'night', 'rain', 'snow'):
        for split in ('val', 'test'):
            for i, (image, label) in enumerate(zip(images, labels, strict=True)):
                for source, name in (
                        (image, f'rgb_anon/{condition}/{split}/GP01/{condition}{i}_rgb_anon.png'),
                        (label, f'gt/{condition}/val/GP01/{condition}{i}_gt_labelTrainIds.png')):
                    path = tmp_path / 'acdc' / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(source.read_bytes())
    return tmp_path / 'acdc'


def test_acdc(benchmark, acdc):
    clean, _ = benchmark('fog', severities=1, out_dir='clean')
    _, results = benchmark('acdc', data_root=str(acdc))
    assert results['metric'] == 'all_images_together/mIoU'
    # the same three images under each condition, so all numbers are the clean one
    types = results['summary']['types']
    assert list(types) == ['fog', 'night', 'rain', 'snow', 'mean_of_conditions',
                           'all_images_together']
    assert set(types.values()) == {clean['P']}


def test_acdc_submission(benchmark, acdc, tmp_path):
    numbers, results = benchmark('acdc', data_root=str(acdc), split='test',
                                 submission_dir=str(tmp_path / 'submission'))
    assert numbers == {} and results['finished'] == results['expected'] == 1
    with zipfile.ZipFile(tmp_path / 'submission/labelTrainIds.zip') as archive:
        assert len(archive.namelist()) == 12
        assert archive.namelist()[0] == 'labelTrainIds/fog0_rgb_anon.png'
        archive.extractall(tmp_path)
    pixels = cv2.imread(str(tmp_path / 'labelTrainIds/fog0_rgb_anon.png'), cv2.IMREAD_UNCHANGED)
    assert pixels.shape == (48, 64) and set(np.unique(pixels)) <= set(range(19))


NIGHT = pytest.mark.parametrize('name, image, label', [
    ('dark-zurich', 'rgb_anon/val/night/GOPR0356/{}_rgb_anon.png',
     'gt/val/night/GOPR0356/{}_gt_labelTrainIds.png'),
    ('night-driving', 'leftImg8bit/test/night/{}_leftImg8bit.png',
     'gtCoarse_daytime_trainvaltest/test/night/{}_gtCoarse_labelTrainIds.png')])


@NIGHT
def test_night_says_which_folder_is_missing(benchmark, tmp_path, name, image, label):
    with pytest.raises(FileNotFoundError, match=f'nowhere/{image.rpartition("/")[0]}.* is not '
                                                'there: .*--benchmark-options data_root='):
        benchmark(name, data_root=str(tmp_path / 'nowhere'))


@NIGHT
def test_night(benchmark, scenes, tmp_path, name, image, label):
    for folder, pattern in (('leftImg8bit', image), ('gtFine', label)):
        for i, source in enumerate(sorted((scenes / folder).rglob('*.png'))):
            path = tmp_path / 'night' / pattern.format(i)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read_bytes())
    _, results = benchmark(name, data_root=str(tmp_path / 'night'))
    assert results['summary']['types'][name] > 30
