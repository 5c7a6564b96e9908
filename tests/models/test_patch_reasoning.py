"""Queries, keys and values by convolution, as in the released AFAT models."""
import json

import pytest
import torch

from mmrobust.models.backbones.fan import FAN
from mmrobust.models.backbones.rvt import RVT


@pytest.mark.parametrize('size', ['tiny', 'base'])
def test_keys_and_shapes_are_the_released_models(shared, size):
    given = json.loads((shared / f'parity/keys_rspc_rvt_{size}_plus_afat.json').read_text())
    with torch.device('meta'):
        model = RVT(f'{size}_plus', out_type='avg_featmap', patch_reasoning=True)
    ours = {key: list(value.shape) for key, value in model.state_dict().items()}
    assert ours == {key: shape for key, shape in given['state_dict'].items()
                    if not key.startswith('head.')}


@pytest.mark.parametrize('model', [
    FAN(dict(patch_embed='conv', patch_size=8, depths=(2,), embed_dims=(16,), num_heads=(2,)),
        patch_reasoning=True, out_type='cls_token'),
    RVT(dict(embed_dims=(16,), depths=(2,), num_heads=(2,), patch_size=8), patch_reasoning=True),
], ids=['FAN', 'RVT'])
def test_trains_on_any_grid(model):
    feature, = model.train()(torch.rand(2, 3, 32, 48))
    feature.square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    # a patch is read together with its neighbours
    block = model.blocks[0] if isinstance(model, FAN) else model.transformers[0]['blocks'][0]
    layer = block.attn.patch_reasoning
    torch.nn.init.constant_(layer[0].bias, 10)  # every ReLU is open
    x = torch.rand(1, 12, 16, requires_grad=True)
    layer(x, (3, 4))[0, 0].sum().backward()
    assert x.grad.abs().sum(-1).nonzero()[:, 1].tolist() == [0, 1, 4, 5]
