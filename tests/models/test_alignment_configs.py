"""The recipes with adversarial feature alignment build what their names say."""
import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmrobust.engine.adversarial_optim_wrapper import AdversarialOptimWrapperConstructor
from mmrobust.models import TokenAwareAvgPooling
from mmrobust.models.alignment import PatchCorruptionModel
from mmrobust.models.layers.attention import PatchReasoning

CONFIGS = sorted((Path(__file__).resolve().parents[2] / 'configs').glob('*afat*.py'))
REQUIRED = {
    *(f'{model}_{size}_afat_imagenet' for model in ('rvt', 'fan') for size in 'tsb'),
    *(f'{model}_s_afat_{data}' for model in ('rvt', 'fan') for data in (
        'cifar10', 'cifar100', 'deepaugment_cifar10', 'deepaugment_cifar100')),
    *(f'rvt_{size}_afat_patch_reasoning_imagenet' for size in 'tb'),
    *(f'{model}_b_afat_random_imagenet' for model in ('rvt', 'fan')),
    'fan_b_tap_adl_afat_imagenet', 'fan_b_tap_adl_afat_cityscapes', 'fan_mini_afat_cifar10'}


def test_all_are_there():
    assert REQUIRED <= {path.stem for path in CONFIGS}


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_recipe(path, shared):
    cfg = Config.fromfile(path)
    cfg.model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    with torch.device('meta'), DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
        image = torch.empty(1, 3, *cfg.get('crop_size', [32 if 'mini' in path.stem else 224] * 2))
        corruption = model.alignment.corruption
        assert corruption.ratio == .1
        assert model.alignment.loss_weight == 5e-3
        assert model.alignment.objective == 'alignment'
        grid = corruption.grid(image)
        if 'random' not in path.stem:
            assert isinstance(corruption, PatchCorruptionModel)
            assert grid == corruption.own_grid  # nothing is resized while training
            constructor = dict(cfg.optim_wrapper)
            assert constructor.pop('constructor') == 'AdversarialOptimWrapperConstructor'
            constructor.pop('paramwise_cfg')
            wrapper = AdversarialOptimWrapperConstructor(constructor)(model)
            assert wrapper.adversary.optimizer.param_groups[0]['lr'] == 1e-4
    assert any(isinstance(m, TokenAwareAvgPooling) for m in model.modules()) == ('tap' in path.stem)
    assert (model.diversification is not None) == ('adl' in path.stem)
    assert (model.augmentation is not None) == (
        'mini' not in path.stem
        and (path.stem.startswith('rvt') or path.stem.startswith('fan_s') and 'cifar' in path.stem))
    assert any(isinstance(m, PatchReasoning) for m in model.modules()) == (
        'patch_reasoning' in path.stem)
    own = sum(p.numel() for name, p in model.named_parameters() if not name.startswith('alignment'))
    if path.stem.startswith('rvt_b_afat') and 'patch_reasoning' not in path.stem:
        assert round(own / 1e6, 1) == 91.8
    if 'patch_reasoning' in path.stem:
        size = dict(t='tiny', b='base')[path.stem[4]]
        given = json.loads((shared / f'parity/keys_rspc_rvt_{size}_plus_afat.json').read_text())
        assert own == given['num_parameters']
