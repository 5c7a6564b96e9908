"""What belongs to the identity of a run, and what does not."""
import shutil

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope

from mmrobust.evaluation.fingerprint import _model_parts, describe, samples
from mmrobust.utils.results_file import differences


def built(cfg):
    init_default_scope('mmseg')
    return DATASETS.build(cfg.test_dataloader.dataset)


@pytest.fixture
def cfg(segmenter):
    return Config.fromfile(segmenter)


def test_the_same_data_set_elsewhere(cfg, scenes, tmp_path):
    before = samples(built(cfg))
    assert before['number of samples'] == 3 and before['classes'] == 19
    shutil.copytree(scenes / 'leftImg8bit', tmp_path / 'other/images')
    shutil.copytree(scenes / 'gtFine', tmp_path / 'other/labels')
    cfg.test_dataloader.dataset.update(
        data_root=str(tmp_path / 'other'),
        data_prefix=dict(img_path='images/val', seg_map_path='labels/val'))
    assert samples(built(cfg)) == before
    label = next((tmp_path / 'other/labels').rglob('*_0_*.png'))
    label.write_bytes(next((tmp_path / 'other/labels').rglob('*_1_*.png')).read_bytes())
    assert differences(dict(data=before), dict(data=samples(built(cfg)))) == [
        'the data differ: other contents of files']
    for path in (tmp_path / 'other').rglob('a_2_*'):
        path.rename(path.with_name(path.name.replace('a_2', 'b_2')))
    assert 'other names of samples' in differences(
        dict(data=before), dict(data=samples(built(cfg))))[0]


def test_a_part_of_a_data_set_is_another(cfg):
    before = samples(built(cfg))
    cfg.test_dataloader.dataset.indices = 2
    assert differences(dict(data=before), dict(data=samples(built(cfg)))) == [
        'the data differ: number of samples=2 instead of 3']


@pytest.mark.parametrize('key, value, said', [
    ('data_preprocessor.bgr_to_rgb', False,
     'the data preprocessor differs: channel_conversion=False instead of True'),
    ('data_preprocessor.mean', [0, 0, 0],
     'the data preprocessor differs: mean=[0, 0, 0] instead of [123.675, 116.28, 103.53]'),
    ('data_preprocessor.size_divisor', 8,  # pad_size_divisor in the maintained mmseg
     'size_divisor=8 instead of 32'),
    ('test_cfg', dict(mode='slide', crop_size=(32, 32), stride=(16, 16)),
     'the model differs: test_cfg.mode=slide instead of whole'),
    ('decode_head.align_corners', True, 'the model differs: align_corners=True instead of False'),
    ('backbone.strides', (1, 1), 'the model differs: backbone.strides=[1, 1] instead of [1, 2]')])
def test_the_model_as_built(cfg, key, value, said):
    init_default_scope('mmseg')
    before = _model_parts(MODELS.build(cfg.model))
    assert _model_parts(MODELS.build(cfg.model)) == before
    cfg.merge_from_dict({f'model.{key}': value})
    if key == 'test_cfg':
        cfg.model.test_cfg = value
    after = _model_parts(MODELS.build(cfg.model))
    assert any(said in text for text in differences(before, after)), differences(before, after)


def test_training_settings_and_folders_do_not_count(cfg):
    init_default_scope('mmseg')
    before = _model_parts(MODELS.build(cfg.model))
    cfg.model.update(train_cfg=dict(a=1))
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint='elsewhere.pth')
    assert _model_parts(MODELS.build(cfg.model)) == before


def test_objects_are_described_by_type_and_settings():
    class Step:
        def __init__(self, scale):
            self.scale, self.backend_args = scale, dict(backend='local')

    assert describe(Step((3, 4))) != describe(Step((3, 5)))
    assert describe([Step(1)])[0]['scale'] == 1 and 'backend_args' not in describe(Step(1))
    loop = Step(1)
    loop.scale = loop  # an object that holds itself
    assert describe(loop)['scale'] == 'Step'
    assert describe(np.arange(100)).startswith('#') and describe(np.arange(3)) == [0, 1, 2]
