"""The recipes of classification and of SegFormer with TAP & ADL build what their names say."""
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmrobust.models import TokenAwareAvgPooling

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
SUFFIXES = ['', '_tap', '_adl', '_tap_adl']
IMAGENET = [f'{stem}{suffix}_imagenet'
            for stem in [*(f'fan_{size}' for size in 'tsbl'),
                         *(f'rvt_{size}{plus}' for size in 'tsb' for plus in ('', '_plus')),
                         *(f'dinov{version}_{size}' for version in '23' for size in 'sbl')]
            for suffix in SUFFIXES] + ['deit_b_tap_adl_imagenet', 'swin_b_tap_adl_imagenet']
CIFAR = [f'{stem}{suffix}_{data}' for stem in ('fan_s', 'rvt_s_plus')
         for suffix in ('', '_tap_adl', '_deepaugment') for data in ('cifar10', 'cifar100')]
SMALL = [f'{stem}{suffix}_cifar10' for stem in ('fan_mini', 'rvt_mini') for suffix in SUFFIXES]
DINO = [f'dinov{stem}{suffix}_{data}' for suffix in SUFFIXES
        for stem, data in [*((f'{version}_{size}', 'cityscapes') for version in '23'
                             for size in 'sbl'), ('3_mini', 'camvid')]]
SEGFORMER = [f'mit_b{size}_tap_adl_cityscapes' for size in range(6)]
# plain backbones in millions, with their head; rvt_b_plus is the published model
PARAMETERS = {
    'fan_t': 7.467, 'fan_s': 26.118, 'fan_b': 50.475, 'fan_l': 76.855, 'rvt_t': 8.646,
    'rvt_s': 22.148, 'rvt_b': 86.224, 'rvt_t_plus': 10.951, 'rvt_s_plus': 23.301,
    'rvt_b_plus': 91.756}
POOLED = {
    'fan_t': 7.524, 'fan_s': 26.258, 'fan_b': 50.736, 'fan_l': 77.239, 'rvt_t': 8.745,
    'rvt_s': 22.316, 'rvt_b': 86.557, 'rvt_t_plus': 11.050, 'rvt_s_plus': 23.469,
    'rvt_b_plus': 92.089}


def build(name):
    """The model of a config, without memory for its weights."""
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    model = cfg.model
    model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(), \
            DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device('meta'):
        warnings.simplefilter('ignore')
        # the hosts read the drop path rates from a tensor
        patch.setattr(torch, 'linspace', partial(torch.linspace, device='cpu'))
        return cfg, MODELS.build(model)


def check_objectives(name, cfg, model):
    assert any(isinstance(m, TokenAwareAvgPooling) for m in model.modules()) == ('_tap' in name)
    assert (getattr(model, 'diversification', None) is not None) == ('_adl' in name)
    assert (getattr(model, 'augmentation', None) is not None) == (
        '_plus' in name or name.startswith('fan_s') and 'cifar' in name)


@pytest.mark.parametrize('name', IMAGENET + CIFAR + SMALL)
def test_classification(name):
    pytest.importorskip('mmpretrain')
    cfg, model = build(name)
    check_objectives(name, cfg, model)
    classes = dict(imagenet=1000, cifar10=10, cifar100=100)[name.split('_')[-1]]
    assert cfg.data_preprocessor.num_classes == classes
    if ('_tap' in name) == ('_adl' in name):
        size = 32 if 'mini' in name else 224
        with torch.no_grad():
            features = model.eval().extract_feat(torch.empty(2, 3, size, size, device='meta'))
            assert model.head(features).shape == (2, classes)
    if name.endswith('imagenet') and name.startswith(('fan', 'rvt')):
        stem = name.split('_imagenet')[0].replace('_tap', '').replace('_adl', '')
        millions = sum(p.numel() for p in model.parameters()) / 1e6
        assert millions == pytest.approx((POOLED if '_tap' in name else PARAMETERS)[stem],
                                         abs=6e-4)


@pytest.mark.parametrize('name', DINO)
def test_dino_segmenters(name):
    pytest.importorskip('mmseg')
    cfg, model = build(name)
    check_objectives(name, cfg, model)
    with torch.no_grad():
        logits = model.eval().decode_head(
            model.extract_feat(torch.empty(1, 3, 64, 120, device='meta')))
    patch = model.backbone.patch_size
    assert logits.shape == (1, 19, -(-64 // patch), -(-120 // patch))


@pytest.mark.parametrize('name', SEGFORMER)
def test_segformer(name):
    pytest.importorskip('mmseg')
    cfg, model = build(name)
    check_objectives(name, cfg, model)
    with torch.no_grad():
        features = model.eval().extract_feat(torch.empty(1, 3, 64, 128, device='meta'))
        logits = model.decode_head(features)
    assert logits.shape == (1, 19, 16, 32)


def test_no_recipe_is_untested():
    # AlexNet, the baseline of mFR, is below
    tested = {*IMAGENET, *CIFAR, *SMALL, *SEGFORMER, 'alexnet_imagenet'}
    tested |= set(DINO)
    found = {path.stem for pattern in ('*_imagenet.py', '*_cifar*.py', 'mit_*.py', 'dino*.py')
             for path in CONFIGS.glob(pattern) if '_afat' not in path.stem}
    assert found == tested


def test_alexnet_has_the_names_of_torchvision():
    pytest.importorskip('mmpretrain')
    alexnet = pytest.importorskip('torchvision').models.alexnet
    _, model = build('alexnet_imagenet')
    with torch.device('meta'):
        published = alexnet().state_dict()
    assert {name.removeprefix('backbone.'): value.shape
            for name, value in model.state_dict().items()} == \
        {name: value.shape for name, value in published.items()}
