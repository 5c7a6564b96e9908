"""Counting parameters and operations."""
import csv

import pytest
import torch
from mmengine.config import Config

from mmrobust.analysis.complexity import complexity, local_aggregations, measure_complexity
from mmrobust.apis.config import load_config
from mmrobust.models.backbones.fan import FAN


class Model(torch.nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, x, mode):
        return self.backbone(x)


@pytest.mark.parametrize('tap', [None, dict(num_branches=3)])
def test_counts_are_the_papers(tap):
    arch = dict(patch_embed='conv', patch_size=16, depths=(2,), embed_dims=(32,), num_heads=(2,))
    found = measure_complexity(Model(FAN(arch, tap=tap)).to('meta').eval(), (64, 96))
    tokens, channels, branches, layers = 4 * 6, 32, 3, 2
    expected = layers * (4 * tokens * channels ** 2 + 2 * tokens ** 2 * channels)
    assert found['attention_formula'] == found['attention_operations'] == expected
    assert found['attention_parameters'] == layers * (4 * channels ** 2 + 4 * channels)
    if tap is None:
        assert found['tap_operations'] is None
    else:
        expected = layers * (11 * tokens * channels * branches + 9 * tokens * branches ** 2)
        assert found['tap_operations'] == found['tap_formula'] == expected


def test_published_cost(repo, tmp_path):
    """FAN-B-Hybrid: 50.4M parameters and 11.7 GFLOPs, with TAP 50.7M and 11.8."""
    names = ('fan_b_imagenet', 'fan_b_tap_imagenet')
    text = complexity([(name, load_config(str(repo / 'configs' / f'{name}.py')))
                       for name in names], tmp_path)
    with (tmp_path / 'complexity.csv').open() as file:
        plain, tap = csv.DictReader(file)
    assert float(plain['parameters']) == pytest.approx(50.4e6, rel=5e-3)
    assert float(tap['parameters']) == pytest.approx(50.7e6, rel=5e-3)
    assert float(plain['operations']) == pytest.approx(11.7e9, rel=1e-2)
    assert float(tap['operations']) == pytest.approx(11.8e9, rel=1e-2)
    assert 'TAP 0.26M, 0.062 GFLOPs (0.53%; paper\'s formula 0.062)' in text
    assert (tmp_path / 'complexity.png').exists() and (tmp_path / 'complexity.pdf').exists()


def test_table_1_of_the_paper(repo, tmp_path):
    """FAN-B-Hybrid with each local aggregation: GFLOPs and parameters as printed."""
    cfg = load_config(str(repo / 'configs' / 'fan_b_imagenet.py'))
    text = complexity(local_aggregations('FAN-B', cfg), tmp_path)
    with (tmp_path / 'complexity.csv').open() as file:
        rows = list(csv.DictReader(file))
    printed = {'baseline': (11.7, 50.4), 'AvgPool 3x3': (11.7, 50.4), 'AvgPool 5x5': (11.7, 50.4),
               'Conv 3x3': (17.3, 79.4), 'Conv 5x5': (27.4, 130.7),
               'TAP, multi-kernel': (11.8, 50.7), 'TAP': (11.8, 50.7)}
    assert [row['model'] for row in rows] == [f'FAN-B, {name}' for name in printed]
    for row, (operations, parameters) in zip(rows, printed.values(), strict=True):
        assert float(row['operations']) / 1e9 == pytest.approx(operations, rel=1e-2)
        assert float(row['parameters']) / 1e6 == pytest.approx(parameters, abs=0.1)
    # pooling adds one operation for each value, a convolution its own and no weighted sum
    tokens, channels, layers = 14 ** 2, 448, 16
    assert float(rows[1]['tap_operations']) == pytest.approx(tokens * channels * layers, rel=1e-5)
    assert float(rows[3]['tap_operations']) == pytest.approx(
        9 * tokens * channels ** 2 * layers, rel=1e-5)
    assert rows[3]['tap_formula'] == '' and "formula" in text.splitlines()[-1]
    assert cfg.model.backbone.get('tap') is None


def test_the_corruption_model_of_training_does_not_count(repo, tmp_path):
    parameters = []
    for name in ('fan_mini_cifar10', 'fan_mini_afat_cifar10'):
        cfg = load_config(str(repo / 'configs' / f'{name}.py'))
        complexity([(name, cfg)], tmp_path, (32, 32))
        with (tmp_path / 'complexity.csv').open() as file:
            parameters += [row['parameters'] for row in csv.DictReader(file)]
    assert parameters[0] == parameters[1]


def test_a_model_without_attention(tmp_path):
    cfg = Config(dict(model=dict(
        type='mmseg.EncoderDecoder',
        backbone=dict(type='mmseg.ResNet', depth=18, norm_cfg=dict(type='BN')),
        decode_head=dict(type='mmseg.FCNHead', in_channels=512, in_index=3, channels=8,
                         num_classes=3))))
    assert 'self-attention' not in complexity([('resnet', cfg)], tmp_path, (32, 32))


def test_models_of_different_libraries_side_by_side(repo, tmp_path):
    """Each config's names are looked up in its own library, not in that of the last one."""
    names = ('fan_demo_streets', 'fan_mini_cifar10')
    text = complexity([(name, load_config(str(repo / 'configs' / f'{name}.py')))
                       for name in names], tmp_path, (32, 32))
    assert [line.split()[0] for line in text.splitlines()] == list(names)


@pytest.mark.parametrize('name', ['alexnet_imagenet', 'fan_b_imagenet'])
def test_local_aggregations_of_backbones_that_take_them(repo, name):
    cfg = load_config(str(repo / 'configs' / f'{name}.py'))
    if name == 'fan_b_imagenet':
        cfg.model.backbone.type = FAN  # a class is a type as well
        assert len(local_aggregations(name, cfg)) == 7
        return
    with pytest.raises(ValueError, match='backbone of alexnet_imagenet takes no local aggregat'):
        local_aggregations(name, cfg)
