"""Weights of DINOv2 and DINOv3 in the original files become ours; others: test_dino_parity.py."""
import pytest
import torch

from mmrobust.checkpoints import (
    from_official,
    load_foreign,
    recognise,
    save_checkpoint,
    to_official,
)
from mmrobust.checkpoints.conversion import has_official_names
from mmrobust.checkpoints.dino import ARCHS
from mmrobust.models.backbones.dino import DINOv2, DINOv3

TOY = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=24)


def original(model, gated=False):
    """The weights of a model as the original repositories write them."""
    weights = dict(model.state_dict(), mask_token=torch.zeros(1, model.embed_dims))
    if isinstance(model, DINOv3):
        weights['storage_tokens'] = weights.pop('register_tokens')
        weights['rope_embed.periods'] = weights['rope_embed.periods'].bfloat16()
        for i in range(len(model.blocks)):
            bias = weights.get(f'blocks.{i}.attn.qkv.bias')
            if bias is not None:
                weights[f'blocks.{i}.attn.qkv.bias_mask'] = torch.ones_like(bias)
    elif gated:
        for i in range(len(model.blocks)):
            for kind in ('weight', 'bias'):
                parts = [weights.pop(f'blocks.{i}.mlp.{w}.{kind}') for w in ('w1', 'w2')]
                weights[f'blocks.{i}.mlp.w12.{kind}'] = torch.cat(parts)
    return weights


@pytest.mark.parametrize('cls, gated', [(DINOv3, False), (DINOv3, True), (DINOv2, False),
                                        (DINOv2, True)])
def test_original_names(cls, gated):
    options = dict(img_size=56) if cls is DINOv2 else {}
    model = cls(arch=dict(TOY, gated=gated), **options).eval()
    found = from_official(original(model, gated), num_heads=(2,))
    config = dict(found.recognition.backbone)
    assert config.pop('type') == cls.__name__
    again = cls(**config).eval()
    again.load_state_dict({k.removeprefix('backbone.'): v for k, v in found.state_dict.items()},
                          strict=True)
    x = torch.randn(1, 3, 64, 96)
    # the files round the periods to bfloat16
    torch.testing.assert_close(again(x), model(x), rtol=1e-4, atol=3e-2 if cls is DINOv3 else 0)
    assert any('mask_token' in key for key in found.ignored)
    assert all(f'backbone.{k}' in found.state_dict for k in again.state_dict())


@pytest.mark.parametrize('family, arch', [(k[0], v) for k, v in ARCHS.items()])
def test_every_size_is_recognised(family, arch):
    cls = dict(DINOv2=DINOv2, DINOv3=DINOv3)[family]
    with torch.device('meta'):
        weights = original(cls(arch=arch))
    found = from_official(weights).recognition
    assert found.backbone == dict(type=family, arch=arch)
    assert found.description.startswith(f'{family} {arch}')


def test_only_pooling_is_missing():
    weights = from_official(original(DINOv3(TOY))).state_dict
    model = DINOv3(TOY, tap=dict(num_branches=4))
    missing, surplus = model.load_state_dict(
        {k.removeprefix('backbone.'): v for k, v in weights.items()}, strict=False)
    assert not surplus and missing and all('.tap.' in k for k in missing)


def test_another_base():
    weights = original(DINOv3(TOY, rope_base=1e4))
    found = from_official(weights)
    assert found.recognition.backbone['rope_base'] == pytest.approx(1e4, rel=.02)
    with pytest.raises(ValueError, match='leave --rope-base out'):
        from_official(weights, rope_base=100.)
    del weights['rope_embed.periods']  # as in the files of Hugging Face and timm
    found = from_official(weights, num_heads=(2,), rope_base=1e4)
    assert found.recognition.backbone['rope_base'] == 1e4
    DINOv3(TOY, rope_base=1e4).load_state_dict(
        {k.removeprefix('backbone.'): v for k, v in found.state_dict.items()}, strict=True)


def test_mistakes():
    weights = original(DINOv2(TOY, img_size=56))
    with pytest.raises(ValueError, match='do not tell its number of heads: give --num-heads'):
        from_official(weights)
    with pytest.raises(ValueError, match='are incomplete'):
        from_official({k: v for k, v in weights.items() if k != 'patch_embed.proj.weight'},
                      num_heads=(2,))
    with pytest.raises(ValueError, match='misses 1 of the weights, such as backbone.norm.bias'):
        from_official({k: v for k, v in weights.items() if k != 'norm.bias'}, num_heads=(2,))
    with pytest.raises(ValueError, match='no square grid'):
        from_official(dict(weights, pos_embed=torch.zeros(1, 12, 32)), num_heads=(2,))
    with pytest.raises(ValueError, match='neither FAN nor RVT, DINOv2 nor DINOv3'):
        recognise({'conv.weight': torch.zeros(1)})


def test_files_are_told_apart(tmp_path):
    weights = original(DINOv3(TOY))
    assert has_official_names(weights)
    found = from_official(weights)
    assert not has_official_names(dict(state_dict=found.state_dict))
    with pytest.raises(ValueError, match='there is nothing to convert'):
        from_official(found.state_dict)
    with pytest.raises(ValueError, match='no way back to the names'):
        to_official(found.state_dict)
    path = tmp_path / 'dino.safetensors'
    save_checkpoint(dict(state_dict=found.state_dict), path)
    assert load_foreign(path)['state_dict'].keys() == found.state_dict.keys()
