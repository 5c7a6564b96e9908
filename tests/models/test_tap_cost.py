"""What token-aware average pooling costs: the figures of the paper's Table 2."""
from functools import partial

import pytest
import torch
from mmengine.analysis import FlopAnalyzer

from mmrobust.models.backbones.fan import FAN
from mmrobust.models.backbones.rvt import RVT


def is_pooling(name):
    return name.endswith('.tap')


@pytest.mark.parametrize('build, dim, blocks', [
    (partial(FAN, 'base_hybrid', out_type='cls_token'), 448, 16),
    (partial(RVT, 'base_plus', masked_blocks=12, out_type='avg_featmap'), 768, 12),
], ids=['fan_b', 'rvt_b'])
def test_pooling_is_cheap(build, dim, blocks):
    """+0.3M parameters, +0.1 GFLOPs (multiply-adds) for an image of 224 x 224."""
    with torch.device('meta'):
        model = build(tap=dict(num_branches=4)).eval()
    entries = []  # that are pooled, in each block
    hooks = [module.register_forward_pre_hook(lambda _, args: entries.append(args[0].numel()))
             for name, module in model.named_modules() if is_pooling(name)]
    with torch.no_grad():
        model(torch.zeros(1, 3, 224, 224, device='meta'))
        for hook in hooks:
            hook.remove()
        for tensor in model.to_empty(device='cpu').state_dict().values():
            tensor.zero_()  # what it costs does not depend on the weights
        analyzer = FlopAnalyzer(model, (torch.zeros(1, 3, 224, 224),))
        analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        operations = sum(n for name, n in analyzer.by_module().items() if is_pooling(name))
    # two for each entry and branch: the paper's 2 HWCK, beside the predictor
    operations += sum(2 * count * 4 for count in entries)
    parameters = sum(p.numel() for name, module in model.named_modules() if is_pooling(name)
                     for p in module.parameters())
    assert parameters == pytest.approx(0.3e6, abs=0.05e6)
    assert operations == pytest.approx(0.1e9, abs=0.05e9)
    # the paper's count: 11 HWCK + 9 HWK^2 in each block
    assert operations == pytest.approx(196 * blocks * (11 * dim * 4 + 9 * 16), rel=1e-3)
    assert operations < 0.01 * analyzer.total()
