"""Small configs, weights and data, whole and broken, on which the tools are tried."""
import json
import os
import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import torch
from strangers import make_strangers
from unusual import make_unusual

REPO = Path(__file__).resolve().parents[2]

# a FAN with TAP and ADL on drawn scenes, of a size that one iteration takes a moment
SMALL = f'''
_base_ = {str(REPO / 'configs' / 'fan_demo_tap_adl_streets.py')!r}
image_size = (64, 32)
model = dict(
    data_preprocessor=dict(size=(32, 64)),
    backbone=dict(arch=dict(stem_depths=(1, 1), stem_dims=(8, 16), depths=(2,), embed_dims=(16,),
                            num_heads=(2,), out_indices=(1, -1))),
    decode_head=dict(in_channels=[8, 16, 16, 16], channels=16))
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False,
                        dataset=dict(num_samples=2, image_size=image_size))
val_dataloader = dict(num_workers=0, persistent_workers=False,
                      dataset=dict(num_samples=1, image_size=image_size))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=1, val_interval=1)
default_hooks = dict(checkpoint=dict(interval=1), logger=dict(interval=1))
'''

# a segmenter of MMSegmentation on files
PLAIN = '''
default_scope = 'mmseg'
custom_imports = dict(imports=['mmrobust'])
work_dir = 'work'
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53],
                           std=[58.395, 57.12, 57.375], bgr_to_rgb=True, size=(48, 64),
                           test_cfg=dict(size_divisor=16)),
    backbone=dict(type='ResNetV1c', depth=18, base_channels=4, stem_channels=4, num_stages=2,
                  strides=(1, 2), dilations=(1, 1), out_indices=(0, 1),
                  norm_cfg=dict(type='BN')),
    decode_head=dict(type='FCNHead', in_channels=8, in_index=1, channels=8, num_convs=1,
                     num_classes=19, norm_cfg=dict(type='BN')),
    test_cfg=dict(mode='whole'))
pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
            dict(type='PackSegInputs')]
test_dataloader = dict(
    batch_size=1, num_workers={workers}, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CityscapesDataset', data_root={root!r},
        data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
        pipeline=pipeline))
val_dataloader = test_dataloader
train_dataloader = dict(
    batch_size=2, num_workers={workers}, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=test_dataloader['dataset'])
test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
val_evaluator = test_evaluator
test_cfg = dict(type='TestLoop')
val_cfg = dict(type='ValLoop')
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1, val_interval=1)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01))
param_scheduler = [dict(type='PolyLR', eta_min=0, power=0.9, begin=0, end=1, by_epoch=False)]
default_hooks = dict(logger=dict(type='LoggerHook', interval=1),
                     checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1))
'''

# a classifier of MMPretrain on folders of files
CLASSES = '''
default_scope = 'mmpretrain'
custom_imports = dict(imports=['mmrobust'])
work_dir = 'work'
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(type='ClsDataPreprocessor', mean=[127] * 3, std=[60] * 3,
                           num_classes=10, to_rgb=True),
    backbone=dict(type='ResNet_CIFAR', depth=18, base_channels=4, stem_channels=4, num_stages=2,
                  strides=(1, 2), dilations=(1, 1), out_indices=(1,)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=8, topk=(1,),
              loss=dict(type='CrossEntropyLoss')))
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
test_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CustomDataset', data_root={root!r}, with_label=True, pipeline=pipeline))
val_dataloader = test_dataloader
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=test_dataloader['dataset'])
test_evaluator = dict(type='Accuracy', topk=(1,))
val_evaluator = test_evaluator
test_cfg = dict()
val_cfg = dict()
train_cfg = dict(by_epoch=True, max_epochs=1, val_interval=1)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01))
'''

CONFIGS = {  # name -> content; '{small}' is the path of the small config
    'empty.py': b'',
    'comment.py': b'# nothing\n',
    'syntax.py': b'x = (\n',
    'name_error.py': b'x = y\n',
    'zero_division.py': b"_base_ = '{small}'\nx = 1 / 0\n",
    'assertion.py': b"assert False, 'never'\n",
    'value_error.py': b"raise ValueError('no')\n",
    'exits.py': b'import sys\nsys.exit(3)\n',
    'endless_recursion.py': b'def f():\n    return f()\nx = f()\n',
    'missing_module.py': b'import no_such_module\n',
    'missing_name.py': b'from os import no_such_name\n',
    'missing_import.py': b"_base_ = '{small}'\n"
                         b"custom_imports = dict(imports=['no.such'], "
                         b"allow_failed_imports=False)\n",
    'imports_number.py': b"_base_ = '{small}'\ncustom_imports = 5\n",
    'not_utf8.py': b'\xff\xfe\x00 = 1\n',
    'latin1.py': b"# stra\xdfe\nmodel = dict()\n",
    'zeros.py': b'\0\0\0',
    'model_number.py': b'model = 1\n',
    'model_list.py': b"_base_ = '{small}'\nmodel = [1]\n",
    'model_none.py': b"_base_ = '{small}'\nmodel = None\n",
    'model_empty.py': b"_base_ = '{small}'\nmodel = dict(_delete_=True)\n",
    'model_typeless.py': b"_base_ = '{small}'\nmodel = dict(_delete_=True, a=1)\n",
    'model_type_number.py': b"_base_ = '{small}'\nmodel = dict(_delete_=True, type=3)\n",
    'model_unknown.py': b"_base_ = '{small}'\nmodel = dict(_delete_=True, type='EncoderDecodr')\n",
    'no_base.py': b"_base_ = 'nowhere.py'\n",
    'base_number.py': b'_base_ = 7\n',
    'base_list_none.py': b'_base_ = [None]\n',
    'base_circular.py': b"_base_ = 'base_circular.py'\n",
    'base_pair_a.py': b"_base_ = 'base_pair_b.py'\n",
    'base_pair_b.py': b"_base_ = 'base_pair_a.py'\n",
    'base_unknown_scope.py': b"_base_ = 'mmfoo::x.py'\n",
    'base_unknown_of_scope.py': b"_base_ = 'mmseg::no/such.py'\n",
    'base_folder.py': b"_base_ = '.'\n",
    'base_twice.py': b"_base_ = ['{small}', '{small}']\n",
    'base_variable.py': b"_base_ = '{small}'\nx = {{_base_.no_such}}\n",
    'environment.py': b"x = '{{$NO_SUCH_VARIABLE_AT_ALL}}'\n",
    'only_lambda.py': b'f = lambda x: x\n',
    'holds_object.py': b"_base_ = '{small}'\nx = object()\n",
    'holds_tensor.py': b"_base_ = '{small}'\nimport torch\nx = torch.zeros(2)\n",
    'reserved_key.py': b"filename = 'x'\n",
    'reserved_text.py': b"text = 'x'\n",
    'scope_number.py': b"_base_ = '{small}'\ndefault_scope = 3\n",
    'scope_unknown.py': b"_base_ = '{small}'\ndefault_scope = 'mmfoo'\n",
    'scope_other.py': b"_base_ = '{small}'\ndefault_scope = 'mmpretrain'\n",
    'no_test.py': b"_base_ = '{small}'\ntest_dataloader = None\nval_dataloader = None\n"
                  b"test_cfg = None\nval_cfg = None\ntest_evaluator = None\nval_evaluator = None\n",
    'no_train.py': b"_base_ = '{small}'\ntrain_dataloader = None\ntrain_cfg = None\n"
                   b'optim_wrapper = None\n',
    'no_optimizer.py': b"_base_ = '{small}'\noptim_wrapper = dict(optimizer=None)\n",
    'no_evaluator.py': b"_base_ = '{small}'\ntest_evaluator = None\n",
    'dataset_list.py': b"_base_ = '{small}'\ntest_dataloader = dict(dataset=[1])\n"
                       b'train_dataloader = dict(dataset=[1])\n',
    'pipeline_number.py': b"_base_ = '{small}'\ntest_dataloader = dict(dataset=dict(pipeline=5))\n"
                          b'train_dataloader = dict(dataset=dict(pipeline=5))\n',
    'pipeline_empty.py': b"_base_ = '{small}'\n"
                         b'test_dataloader = dict(dataset=dict(pipeline=[]))\n'
                         b'train_dataloader = dict(dataset=dict(pipeline=[]))\n',
    'pipeline_unknown.py': b"_base_ = '{small}'\np = [dict(type='LoadImageFromFil')]\n"
                           b'test_dataloader = dict(dataset=dict(pipeline=p))\n'
                           b'train_dataloader = dict(dataset=dict(pipeline=p))\n',
    'pipeline_keys.py': b"_base_ = '{small}'\np = [dict(type='Resize', sclae=(4, 4))]\n"
                        b'test_dataloader = dict(dataset=dict(pipeline=p))\n'
                        b'train_dataloader = dict(dataset=dict(pipeline=p))\n',
    'pipeline_unpacked.py': b"_base_ = '{small}'\np = [dict(type='LoadImageFromFile')]\n"
                            b'test_dataloader = dict(dataset=dict(pipeline=p))\n'
                            b'train_dataloader = dict(dataset=dict(pipeline=p))\n',
    'hooks_number.py': b"_base_ = '{small}'\ncustom_hooks = 5\n",
    'hooks_unknown.py': b"_base_ = '{small}'\ncustom_hooks = [dict(type='EMAHok')]\n",
    'hooks_keys.py': b"_base_ = '{small}'\ncustom_hooks = [dict(type='EMAHook', foo=1)]\n",
    'hooks_text.py': b"_base_ = '{small}'\ncustom_hooks = ['EMAHook']\n",
    'default_hooks_number.py': b"_base_ = '{small}'\ndefault_hooks = 3\n",
    'visualizer_unknown.py': b"_base_ = '{small}'\nvisualizer = dict(type='Foo')\n",
    'visualizer_number.py': b"_base_ = '{small}'\nvisualizer = 5\n",
    'scheduler_unknown.py': b"_base_ = '{small}'\nparam_scheduler = [dict(type='PolyL')]\n",
    'scheduler_keys.py': b"_base_ = '{small}'\nparam_scheduler = dict(type='PolyLR', foo=1)\n",
    'scheduler_range.py': b"_base_ = '{small}'\n"
                          b"param_scheduler = dict(type='PolyLR', begin=5, end=2, "
                          b'by_epoch=False)\n',
    'evaluator_unknown.py': b"_base_ = '{small}'\ntest_evaluator = dict(type='IoUMetrc')\n"
                            b"val_evaluator = dict(type='IoUMetrc')\n",
    'evaluator_keys.py': b"_base_ = '{small}'\n"
                         b"test_evaluator = dict(type='IoUMetric', iou_metrics=['mFoo'])\n"
                         b"val_evaluator = dict(type='IoUMetric', iou_metrics=['mFoo'])\n",
    'loop_unknown.py': b"_base_ = '{small}'\ntest_cfg = dict(type='TestLop')\n"
                       b"train_cfg = dict(type='TrainLop')\n",
    'log_level.py': b"_base_ = '{small}'\nlog_level = 'LOUD'\n",
    'seed_text.py': b"_base_ = '{small}'\nrandomness = dict(seed='x')\n",
    'env_number.py': b"_base_ = '{small}'\nenv_cfg = 5\n",
    'env_method.py': b"_base_ = '{small}'\n"
                     b"env_cfg = dict(mp_cfg=dict(mp_start_method='teleport'))\n",
    'launcher.py': b"_base_ = '{small}'\nlauncher = 'rocket'\n",
    'head_input.py': b"_base_ = '{small}'\nmodel = dict(decode_head=dict(in_channels=[8, 16]))\n",
    'head_classes.py': b"_base_ = '{small}'\nmodel = dict(decode_head=dict(num_classes=2))\n",
    'head_index.py': b"_base_ = '{plain}'\nmodel = dict(decode_head=dict(in_index=7))\n",
    'head_channels.py': b"_base_ = '{plain}'\nmodel = dict(decode_head=dict(in_channels=9))\n",
    'arch_unknown.py': b"_base_ = '{small}'\n"
                       b"model = dict(backbone=dict(_delete_=True, type='FAN', arch='huge'))\n",
    'arch_number.py': b"_base_ = '{small}'\n"
                      b"model = dict(backbone=dict(_delete_=True, type='FAN', arch=5))\n",
    'arch_keys.py': b"_base_ = '{small}'\nmodel = dict(backbone=dict(arch=dict(foo=1)))\n",
    'arch_lengths.py': b"_base_ = '{small}'\n"
                       b'model = dict(backbone=dict(arch=dict(depths=(2, 1))))\n',
    'arch_heads.py': b"_base_ = '{small}'\n"
                     b'model = dict(backbone=dict(arch=dict(num_heads=(3,))))\n',
    'host_unknown.py': b"_base_ = '{small}'\nmodel = dict(host='mmseg.EncoderDecodr')\n",
    'host_number.py': b"_base_ = '{small}'\nmodel = dict(host=3)\n",
    'preprocessor.py': b"_base_ = '{small}'\nmodel = dict(data_preprocessor=dict(mean=[1]))\n",
    'classes.json': b'{"model": 1}',
    'broken.json': b'{"model": ',
    'list.json': b'[1, 2]',
    'broken.yml': b'model: [',
    'text.yaml': b'just words',
    'data.txt': b'model = 1',
    'no_suffix': b'model = 1',
}


def _write_images(root: Path, count: int = 3, size: tuple[int, int] = (48, 64)) -> None:
    rng = np.random.RandomState(0)
    for i in range(count):
        image = rng.randint(0, 255, (*size, 3)).astype(np.uint8)
        label = rng.randint(0, 19, size).astype(np.uint8)
        for folder, name, pixels in (('leftImg8bit', f'a_{i}_leftImg8bit.png', image),
                                     ('gtFine', f'a_{i}_gtFine_labelTrainIds.png', label)):
            path = root / folder / 'val' / 'a' / name
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), pixels)


def _write_classes(root: Path) -> None:
    rng = np.random.RandomState(0)
    for label in range(10):
        path = root / f'class{label}' / '0.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.randint(0, 255, (32, 32, 3)).astype(np.uint8))


def _break(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == 'cut':
        path.write_bytes(data[:len(data) // 2])
    elif how == 'empty':
        path.write_bytes(b'')
    elif how == 'text':
        path.write_text('no image')
    elif how == 'missing':
        path.unlink()
    elif how == 'folder':
        path.unlink()
        path.mkdir()
    elif how == 'unreadable':
        path.chmod(0)
    elif how == 'dangling':
        path.unlink()
        path.symlink_to('nowhere.png')
    elif how == 'size':
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path), -1), (20, 30),
                                          interpolation=cv2.INTER_NEAREST))
    elif how == 'tiny':
        cv2.imwrite(str(path), cv2.imread(str(path), -1)[:1, :1])
    elif how == 'colour':
        cv2.imwrite(str(path), np.zeros((48, 64, 3), np.uint8))
    elif how == 'deep':
        cv2.imwrite(str(path), np.zeros((48, 64), np.uint16))
    elif how == 'values':
        cv2.imwrite(str(path), np.full((48, 64), 77, np.uint8))
    elif how == 'grey':
        cv2.imwrite(str(path), np.zeros((48, 64), np.uint8))


IMAGE_FAULTS = ('cut', 'empty', 'text', 'missing', 'folder', 'dangling', 'size', 'tiny', 'grey')
LABEL_FAULTS = ('cut', 'empty', 'text', 'missing', 'folder', 'size', 'colour', 'deep', 'values')


def make(folder: Path) -> None:
    """Write everything below ``folder``."""
    from mmengine.config import Config
    from mmengine.registry import MODELS, DefaultScope, init_default_scope

    _write_images(folder / 'data')
    _write_classes(folder / 'classes')
    for kind, faults, file in (
            ('image', IMAGE_FAULTS, 'leftImg8bit/val/a/a_1_leftImg8bit.png'),
            ('label', LABEL_FAULTS, 'gtFine/val/a/a_1_gtFine_labelTrainIds.png')):
        for fault in faults:
            root = folder / f'{kind}_{fault}'
            shutil.copytree(folder / 'data', root)
            _break(root / file, fault)
    (folder / 'hollow').mkdir()
    odd = folder / 'odd names'
    shutil.copytree(folder / 'data', odd)
    for path in list(odd.rglob('*.png')):
        path.rename(path.with_name('stra\u00dfe \n ' + path.name))

    texts = {
        'small.py': SMALL, 'plain.py': PLAIN.format(root=str(folder / 'data'), workers=0),
        'workers.py': PLAIN.format(root=str(folder / 'data'), workers=2).replace(
            "'work'", "'work'"),
        'classes.py': CLASSES.format(root=str(folder / 'classes'))}
    for name, text in texts.items():
        (folder / name).write_text(text)
    for name, content in CONFIGS.items():
        (folder / name).write_bytes(
            content.replace(b'{small}', str(folder / 'small.py').encode())
            .replace(b'{plain}', str(folder / 'plain.py').encode()))
    for name in ('a folder.py', 'a folder.pth', 'a folder.json'):
        (folder / name).mkdir()
    shutil.copy(folder / 'small.py', folder / 'name with blanks.py')
    shutil.copy(folder / 'small.py', folder / 'stra\u00dfe.py')
    shutil.copy(folder / 'small.py', folder / 'two\nlines.py')
    (folder / 'link.py').symlink_to('nowhere.py')
    for name in ('small', 'plain', 'classes'):
        cfg = Config.fromfile(folder / f'{name}.py')
        init_default_scope(cfg.default_scope)
        torch.manual_seed(0)
        weights = MODELS.build(cfg.model).state_dict()
        torch.save(dict(state_dict=weights, meta={}), folder / f'{name}.pth')
        DefaultScope._instance_dict.clear()
    _write_checkpoints(folder, torch.load(folder / 'small.pth', weights_only=True)['state_dict'])
    _write_results(folder)
    make_unusual(folder)
    make_strangers(folder)


def _write_checkpoints(folder: Path, weights: dict) -> None:
    first = next(name for name, value in weights.items() if value.is_floating_point())
    contents = {
        'list': [1, 2], 'number': 5, 'none': None, 'tensor': torch.zeros(2), 'empty_dict': {},
        'empty_state': dict(state_dict={}), 'state_list': dict(state_dict=[1]),
        'state_none': dict(state_dict=None), 'state_numbers': dict(state_dict={first: 1}),
        'state_keys': dict(state_dict={3: torch.zeros(2)}),
        'meta_list': dict(state_dict=weights, meta=[1]),
        'meta_none': dict(state_dict=weights, meta=None),
        'nan': dict(state_dict={**weights, first: weights[first] * float('nan')}),
        'strings': dict(state_dict=dict.fromkeys(weights, 'x')),
        'part': dict(state_dict={first: weights[first]}),
        'optimizer': dict(state_dict=weights, optimizer=[1], meta=dict(iter=1, epoch=0)),
        'meta_iter': dict(state_dict=weights, optimizer={}, message_hub={},
                          meta=dict(iter='x', epoch=None)),
    }
    for name, content in contents.items():
        torch.save(content, folder / f'bad_{name}.pth')
    data = (folder / 'small.pth').read_bytes()
    (folder / 'bad_cut.pth').write_bytes(data[:len(data) // 2])
    (folder / 'bad_bytes.pth').write_bytes(b'PK\x03\x04' + os.urandom(64))
    (folder / 'bad_empty.pth').write_bytes(b'')
    (folder / 'bad_text.pth').write_text('<html>404</html>')
    (folder / 'bad_cut.safetensors').write_bytes(b'\x10\0\0\0\0\0\0\0{"a"')
    (folder / 'bad_code.pth').write_bytes(pickle.dumps(Path))
    for name, named in dict(dangling='nowhere.pth', blank='').items():
        for copy in (name, f'{name}_work'):
            (folder / copy).mkdir()
            (folder / copy / 'last_checkpoint').write_text(named)


def _write_results(folder: Path) -> None:
    contents = {
        'empty': '', 'text': 'words', 'list': '[]', 'number': '3', 'null': 'null', 'dict': '{}',
        'cut': '{"format": 1, "cells": [', 'nan': '{"format": NaN}',
        'format': '{"format": 99, "cells": []}',
        'cells_number': '{"format": 1, "protocol": "fog", "model": "m", "cells": 5}',
        'cells_text': '{"format": 1, "protocol": "fog", "model": "m", "metric": "mIoU", '
                      '"cells": ["x"], "summary": {}}',
        'values_text': '{"format": 1, "protocol": "fog", "model": "m", "metric": "mIoU", '
                       '"cells": [{"name": "fog", "severity": 1, "metrics": {"mIoU": "high"}}], '
                       '"summary": {"P": "x"}}'}
    for name, text in contents.items():
        path = folder / 'results' / name / 'fog' / 'results.json'
        path.parent.mkdir(parents=True)
        path.write_text(text)
    json.dump({}, open(folder / 'results' / 'other.json', 'w'))
    (folder / 'results' / 'binary.json').write_bytes(b'\xff\xfe\0')
