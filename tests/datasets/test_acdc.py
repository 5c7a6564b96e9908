import shutil
import zipfile

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS

from mmrobust.datasets.acdc import CONDITIONS
from mmrobust.evaluation.metrics.acdc_metric import ACDCMetric

RECORDING = 'GOPR0475'


def write_acdc(root, images='rgb_anon', labels='gt', size=(40, 64)):
    """A small copy in the layout of the archives: two images per condition and split."""
    rng = np.random.RandomState(0)
    for condition in CONDITIONS:
        for split in ('train', 'val', 'test'):
            for i in range(2):
                stem = f'{RECORDING}_frame_{condition}{split}{i}'
                files = {f'{images}/{condition}/{split}/{RECORDING}/{stem}_rgb_anon.png': 3,
                         f'{images}/{condition}/{split}_ref/{RECORDING}/{stem}_rgb_ref_anon.png':
                             3}
                if split != 'test':
                    folder = f'{labels}/{condition}/{split}/{RECORDING}/{stem}_gt'
                    files |= {f'{folder}_labelTrainIds.png': 19, f'{folder}_labelIds.png': 34,
                              f'{folder}_invIds.png': 2, f'{folder}_labelColor.png': 3}
                for name, kind in files.items():
                    path = root / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    pixels = (rng.randint(0, 256, (*size, 3)) if kind == 3
                              else rng.randint(0, kind, size))
                    cv2.imwrite(str(path), pixels.astype(np.uint8))
    return root


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_acdc(tmp_path_factory.mktemp('acdc'))


def build(root, **kwargs):
    return DATASETS.build(dict(type='ACDCDataset', data_root=str(root), **kwargs))


@pytest.mark.parametrize('split', ['train', 'val'])
def test_images_and_their_labels(root, split):
    dataset = build(root, split=split)
    assert len(dataset) == 8 and len(dataset.metainfo['classes']) == 19
    for i in range(8):
        info = dataset.get_data_info(i)
        stem = info['img_path'].removesuffix('_rgb_anon.png')
        assert f'/{CONDITIONS[i // 2]}/{split}/{RECORDING}/' in stem
        assert info['seg_map_path'] == stem.replace('rgb_anon/', 'gt/') + '_gt_labelTrainIds.png'


def test_conditions_reference_images_and_test_split(root):
    assert len(build(root, split='val', conditions='night')) == 2
    assert len(build(root, split='val', conditions=['rain', 'fog'])) == 4
    reference = build(root, split='val', reference=True)
    assert len(reference) == 8
    assert reference.get_data_info(0)['img_path'].endswith('_rgb_ref_anon.png')
    assert '/val_ref/' in reference.get_data_info(0)['img_path']
    assert 'seg_map_path' not in reference.get_data_info(0)
    assert 'seg_map_path' not in build(root, split='test').get_data_info(0)


def test_archives_in_folders_of_their_names(tmp_path):
    write_acdc(tmp_path, 'rgb_anon_trainvaltest/rgb_anon', 'gt_trainval/gt')
    info = build(tmp_path, split='val').get_data_info(0)
    assert info['seg_map_path'].startswith(str(tmp_path / 'gt_trainval/gt/fog/val'))


def test_pipeline_reads_image_and_label(root):
    dataset = build(root, split='val', pipeline=[
        dict(type='LoadImageFromFile'), dict(type='mmseg.LoadAnnotations'),
        dict(type='mmseg.PackSegInputs')])
    sample = dataset[3]
    label = cv2.imread(dataset.get_data_info(3)['seg_map_path'], cv2.IMREAD_UNCHANGED)
    assert np.array_equal(sample['data_samples'].gt_sem_seg.data[0].numpy(), label)


def test_errors(root, tmp_path):
    with pytest.raises(ValueError, match="ACDC has no 'trainval': choose from train, val, test"):
        build(root, split='trainval')
    with pytest.raises(ValueError, match="ACDC has no 'sleet': choose from fog, night"):
        build(root, conditions=['fog', 'sleet'])
    with pytest.raises(FileNotFoundError, match='no images of ACDC in .*: expected rgb_anon or'
                       ) as error:
        build(tmp_path)
    assert '--' not in str(error.value)  # several commands say it
    shutil.copytree(root / 'rgb_anon', tmp_path / 'rgb_anon')
    with pytest.raises(FileNotFoundError, match='no labels of ACDC in .*: expected gt or'):
        build(tmp_path)
    shutil.copytree(root / 'gt', tmp_path / 'gt')
    (tmp_path / f'gt/rain/val/{RECORDING}/{RECORDING}_frame_rainval1_gt_labelTrainIds.png').unlink()
    with pytest.raises(FileNotFoundError, match='no label .*rainval1_gt_labelTrainIds.png'):
        build(tmp_path, split='val')
    shutil.rmtree(tmp_path / 'rgb_anon/snow/train')
    with pytest.raises(FileNotFoundError, match=r'no images \*_rgb_anon.png .*snow.train'):
        build(tmp_path, split='train')


def test_metric_by_condition_their_mean_and_all_images_together():
    import torch
    metric = ACDCMetric()
    metric.dataset_meta = dict(classes=('road', 'sky'))
    # (condition, label, prediction): IoU by hand
    images = [('fog', [0, 0, 0, 1], [0, 0, 1, 1]),    # road 2/3, sky 1/2
              ('night', [0, 1, 1, 255], [1, 1, 1, 0]),  # road 0/1, sky 2/3
              ('night', [0, 0, 0, 0], [0, 0, 0, 0])]   # night together: road 4/5, sky 2/3
    for condition, label, prediction in images:
        metric.process({}, [dict(
            img_path=f'/data/rgb_anon/{condition}/val/{RECORDING}/x_rgb_anon.png',
            gt_sem_seg=dict(data=torch.tensor([[label]])),
            pred_sem_seg=dict(data=torch.tensor([[prediction]])))])
    scores = metric.evaluate(3)
    fog, night = (2 / 3 + 1 / 2) / 2, (4 / 5 + 2 / 3) / 2
    together = ((2 + 4) / (3 + 5) + (1 + 2) / (2 + 3)) / 2
    for name, value in (('fog', fog), ('night', night), ('mean_of_conditions', (fog + night) / 2),
                        ('all_images_together', together)):
        assert scores[f'{name}/mIoU'] == pytest.approx(100 * value, abs=0.006), name
    assert together != pytest.approx((fog + night) / 2, abs=0.001)


def test_submission(tmp_path):
    import torch
    metric = ACDCMetric(submission_dir=str(tmp_path))
    metric.dataset_meta = dict(classes=('road', 'sky'))
    (tmp_path / 'labelTrainIds/left_over.png').touch()
    names = [f'{RECORDING}_frame_{i}_rgb_anon.png' for i in range(2)]
    for i, name in enumerate(names):
        metric.process({}, [dict(img_path=f'/d/rgb_anon/fog/test/{RECORDING}/{name}',
                                 pred_sem_seg=dict(data=torch.full((1, 4, 6), i)))])
    assert metric.evaluate(2) == {}
    archive = tmp_path / 'labelTrainIds.zip'
    with zipfile.ZipFile(archive) as opened:
        assert opened.namelist() == [f'labelTrainIds/{name}' for name in names]
        opened.extractall(tmp_path / 'opened')
    for i, name in enumerate(names):
        pixels = cv2.imread(str(tmp_path / 'opened/labelTrainIds' / name), cv2.IMREAD_UNCHANGED)
        assert pixels.shape == (4, 6) and (pixels == i).all()
