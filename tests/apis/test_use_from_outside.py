"""Other people's configs and programs use ours."""
import os
import subprocess
import sys
import textwrap

import pytest


def python(repo, code, folder):
    """Run a program in a process of its own: registries and scopes are global."""
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    done = subprocess.run([sys.executable, '-c', textwrap.dedent(code)], cwd=folder, env=env,
                          text=True, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


def test_import_is_cheap(repo):
    out = python(repo, """
        import sys, mmrobust
        heavy = {'torch', 'cv2', 'mmcv', 'mmseg', 'mmpretrain', 'scipy', 'matplotlib'}
        print(sorted(heavy & set(sys.modules)))
    """, repo)
    assert out.strip().endswith('[]')


def test_registries_give_classes(repo, tmp_path):
    """From any scope, whatever was imported before; nothing is imported until it is asked for."""
    out = python(repo, """
        import sys, mmrobust
        from mmengine.registry import DATASETS, MODELS, Registry
        assert 'ACDCDataset' in DATASETS.module_dict and 'not yet' in repr(
            list(DATASETS.module_dict.values()))
        assert 'torch' not in sys.modules
        child = Registry('model', parent=MODELS, scope='mmrobust_test', locations=['json'])
        class Mine(child.get('FAN')):
            pass
        from mmrobust.models import FAN
        assert Mine.__base__ is FAN is MODELS.get('FAN') is MODELS.module_dict.get('FAN')
        assert MODELS.get('FA') is None and MODELS.module_dict.get('FA') is None
        print(len(DATASETS.get('ACDCDataset').METAINFO['classes']))
    """, tmp_path)
    assert out.split()[-1] == '19'


def test_every_registered_name_is_where_the_table_says(repo):
    out = python(repo, """
        from importlib import import_module
        from mmengine import registry
        from mmrobust.registry import ON_DEMAND
        count = 0
        for kind, entries in ON_DEMAND.items():
            for name, module in entries.items():
                thing = getattr(import_module(module), name)
                assert getattr(registry, kind).get(name) is thing, name
                count += 1
        print('names', count)
    """, repo)
    assert int(out.split()[-1]) > 20


def test_foreign_segmentation_config(repo, tmp_path):
    """`custom_imports` and `type='FAN'` in a config that inherits MMSegmentation's own."""
    (tmp_path / 'mine.py').write_text(textwrap.dedent("""
        _base_ = 'mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py'
        custom_imports = dict(imports=['mmrobust'], allow_failed_imports=False)
        model = dict(
            pretrained=None,
            backbone=dict(_delete_=True, type='FAN', tap=dict(num_branches=2), arch=dict(
                stem_depths=(1, 1), stem_dims=(8, 16), depths=(2,), embed_dims=(16,),
                num_heads=(2,), out_indices=(1, -1))),
            decode_head=dict(in_channels=[8, 16, 16, 16], channels=16))
    """))
    out = python(repo, """
        import numpy as np
        from mmrobust.apis import load_config
        from mmseg.apis import inference_model, init_model
        model = init_model(load_config('mine.py'), device='cpu')
        model.dataset_meta = dict(classes=[str(i) for i in range(150)], palette=[[0, 0, 0]] * 150)
        result = inference_model(model, np.zeros((40, 64, 3), np.uint8))
        print(type(model.backbone).__name__, tuple(result.pred_sem_seg.data.shape))
    """, tmp_path)
    assert 'FAN (1, 40, 64)' in out


def test_foreign_classification_config(repo, tmp_path):
    (tmp_path / 'mine.py').write_text(textwrap.dedent("""
        default_scope = 'mmpretrain'
        custom_imports = dict(imports=['mmrobust'], allow_failed_imports=False)
        model = dict(
            type='RobustModel', host='ImageClassifier',
            diversification=dict(type='AttentionDiversificationLoss', tau=1.),
            data_preprocessor=dict(mean=[0., 0., 0.], std=[255., 255., 255.], to_rgb=True),
            backbone=dict(type='FAN', out_type='cls_token', arch=dict(
                patch_embed='conv', patch_size=4, depths=(2,), embed_dims=(16,),
                num_heads=(2,))),
            head=dict(type='LinearClsHead', num_classes=3, in_channels=16,
                      loss=dict(type='CrossEntropyLoss')))
    """))
    out = python(repo, """
        import torch
        from mmengine.config import Config
        from mmengine.registry import MODELS, init_default_scope
        from mmpretrain.structures import DataSample
        from mmpretrain.models import ImageClassifier
        cfg = Config.fromfile('mine.py')
        init_default_scope(cfg.default_scope)
        model = MODELS.build(cfg.model)
        assert isinstance(model, ImageClassifier)
        losses = model.loss(torch.rand(1, 3, 20, 28), [DataSample().set_gt_label(1)])
        print(sorted(losses), losses['loss_adl'].item() > 0)
    """, tmp_path)
    assert "['loss', 'loss_adl'] True" in out


def test_inheriting_from_another_folder_and_inferencer(repo, tmp_path):
    (tmp_path / 'mine.py').write_text(textwrap.dedent(f"""
        _base_ = '{repo}/configs/fan_demo_tap_adl_streets.py'
        model = dict(decode_head=dict(channels=16))
    """))
    out = python(repo, """
        import numpy as np, torch
        from mmengine.config import Config
        from mmengine.registry import MODELS, init_default_scope
        from mmseg.apis import MMSegInferencer
        from mmseg.datasets import CityscapesDataset
        cfg = Config.fromfile('mine.py')
        init_default_scope('mmseg')
        torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict(),
                        meta=dict(dataset_meta=CityscapesDataset.METAINFO)), 'weights.pth')
        run = MMSegInferencer('mine.py', 'weights.pth', device='cpu')
        result = run(np.zeros((48, 64, 3), np.uint8), show=False)
        print('prediction', result['predictions'].shape)
    """, tmp_path)
    assert 'prediction (48, 64)' in out


@pytest.mark.parametrize('missing', ['mmseg', 'mmpretrain'])
def test_one_host_library_is_enough(repo, tmp_path, missing):
    """Without a host library the rest works, and its own part says what to install."""
    part = {'mmseg': "dict(type='ACDCDataset')", 'mmpretrain': "dict(type='CIFAR10C')"}[missing]
    out = python(repo, f"""
        import sys
        sys.modules['{missing}'] = None
        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name.split('.')[0] == '{missing}':
                    raise ModuleNotFoundError(name, name='{missing}')
        del sys.modules['{missing}']
        sys.meta_path.insert(0, Absent())
        import mmrobust
        from mmengine.registry import DATASETS, MODELS
        MODELS.build(dict(type='FAN', arch='tiny_vit'))
        try:
            DATASETS.build({part})
        except ImportError as error:
            print(error)
    """, tmp_path)
    assert f'needs {missing}, which is not installed' in out
