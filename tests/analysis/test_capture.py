"""Capturing attention of our backbones and of the host libraries'."""
import pytest
import torch
from mmengine.registry import MODELS
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmrobust.analysis.attention import AttentionMaps
from mmrobust.analysis.capture import attention_layers, capture_attention, select_layers
from mmrobust.analysis.statistics import attention_statistics, map_similarity
from mmrobust.models.losses.attention_diversification import AttentionDiversificationLoss

FAN = dict(type='FAN', arch=dict(patch_embed='hybrid', stem_depths=(1, 1), stem_dims=(8, 16),
                                 depths=(2,), embed_dims=(16,), num_heads=(2,)))
VIT = dict(arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
           img_size=64, patch_size=16)
SWIN = dict(arch=dict(embed_dims=8, depths=[2, 2], num_heads=[2, 4]), img_size=64, window_size=4,
            out_indices=(1,))
MIT = dict(embed_dims=8, num_stages=2, num_layers=[1, 2], num_heads=[1, 2], patch_sizes=[7, 3],
           strides=[4, 2], sr_ratios=[4, 1], out_indices=(0, 1))
# config, image size, name of the last of so many layers, shape of its attention
BACKBONES = {
    'fan': (FAN, (64, 96), 2, 'blocks.1.attn', (2, 2, 24, 24)),
    'fan_tap': (dict(FAN, tap=dict(num_branches=4)), (64, 96), 2, 'blocks.1.attn',
                (2, 2, 24, 24)),
    'rvt_plus': (dict(type='RVT', arch=dict(embed_dims=(16,), depths=(2,), num_heads=(2,),
                                            masked_blocks=1)),
                 (64, 96), 2, 'transformers.0.blocks.1.attn', (2, 2, 24, 24)),
    'vit': (dict(VIT, type='mmpretrain.VisionTransformer'), (64, 64), 2, 'layers.1.attn',
            (2, 2, 17, 17)),
    'tap_vit': (dict(VIT, type='TAPVisionTransformer', tap=dict(num_branches=4)), (64, 64), 2,
                'layers.1.attn', (2, 2, 17, 17)),
    'swin': (dict(SWIN, type='mmpretrain.SwinTransformer'), (64, 64), 4,
             'stages.1.blocks.1.attn', (2 * 4, 4, 16, 16)),
    'tap_swin': (dict(SWIN, type='TAPSwinTransformer', tap=dict(num_branches=4)), (64, 64), 4,
                 'stages.1.blocks.1.attn', (2 * 4, 4, 16, 16)),
    'mmseg_swin': (dict(type='mmseg.SwinTransformer', pretrain_img_size=64, embed_dims=8,
                        window_size=4, depths=(2, 2), num_heads=(2, 4), strides=(4, 2),
                        out_indices=(0, 1)),
                   (40, 48), 4, 'stages.1.blocks.1.attn', (2 * 4, 4, 16, 16)),
    'mit': (dict(MIT, type='mmseg.MixVisionTransformer'), (64, 96), 3, 'layers.1.1.1.attn.attn',
            (2, 2, 96, 96)),
    'tap_mit': (dict(MIT, type='TAPMixVisionTransformer', tap=dict(num_branches=4)), (64, 96), 3,
                'layers.1.1.1.attn.attn', (2, 2, 96, 96)),
}


def build(name):
    torch.manual_seed(0)
    cfg, size, *_ = BACKBONES[name]
    model = MODELS.build(cfg)
    model.eval()  # MMPretrain's returns None
    for parameter in model.parameters():  # so that attention is far from uniform
        if parameter.dim() == 2:
            nn.init.normal_(parameter, std=0.3)
    return model, torch.randn(2, 3, *size)


@pytest.mark.parametrize('name', BACKBONES)
def test_captures_without_changing(name):
    _, _, count, last, shape = BACKBONES[name]
    model, images = build(name)
    with torch.no_grad():
        plain = model(images)
        before = {key: dict(module.__dict__) for key, module in model.named_modules()}
        with capture_attention(model) as captured:
            seen = model(images)
    assert all(torch.equal(a, b) for a, b in zip(plain, seen, strict=True))
    assert len(captured) == count and list(captured)[-1] == last
    maps = captured[last]
    assert maps.shape == shape and maps.images == 2
    total = torch.cat([block for _, block in maps.blocks(100)], 2).sum(-1)
    assert torch.allclose(total, torch.ones_like(total), atol=1e-5)
    for layer in captured.values():
        (height, width), extra = layer.grid_of(layer.num_tokens)
        assert height * width + extra == layer.num_tokens
        assert all(value.shape == (2,) for value in attention_statistics(layer).values())
    after = {key: dict(module.__dict__) for key, module in model.named_modules()}
    assert before.keys() == after.keys()
    for key in before:
        assert before[key].keys() == after[key].keys()
        assert not after[key]['_forward_hooks'].keys() - before[key]['_forward_hooks'].keys()


@pytest.mark.parametrize('ours, host', [('tap_vit', 'vit'), ('tap_mit', 'mit')])
def test_agrees_with_the_diversification_loss(ours, host):
    """What the loss is told of our version of a host's model is what is captured of the host."""
    tap, images = build(ours)
    for module in tap.modules():
        if hasattr(module, 'tap'):
            module.tap = None
    plain, _ = build(host)
    plain.load_state_dict(tap.state_dict())
    loss = AttentionDiversificationLoss()
    with torch.no_grad(), loss.listen() as records, capture_attention(tap) as own:
        tap(images)
    with torch.no_grad(), capture_attention(plain) as captured:
        plain(images)
    assert len(records) == len(captured)
    for record, name in zip(records, captured, strict=True):
        heads, mean = map_similarity(own[name], captured[name])
        assert torch.allclose(heads, torch.ones_like(heads), atol=1e-5)
        assert torch.allclose(attention_statistics(captured[name])['adl'],
                              loss.similarity(record)[:, 0], atol=1e-5)


def test_swin_matrix_is_the_attention_of_the_image():
    """The shifted windows' attention, put in the order of the grid, moves the tokens' values."""
    model, images = build('swin')
    block = model.stages[0].blocks[1].attn  # shifted by 2
    values, outputs = [], []
    block.w_msa.qkv.register_forward_hook(lambda m, a, out: values.append(out))
    block.w_msa.proj.register_forward_pre_hook(lambda m, a: outputs.append(a[0]))
    with torch.no_grad(), capture_attention(model, ['stages.0.blocks.1.attn']) as captured:
        model(images)
    maps, = captured.values()
    assert block.shift_size > 0 and maps.grid == (16, 16)
    v, out = values[0][..., 16:].unflatten(0, (2, -1))[1], outputs[0].unflatten(0, (2, -1))[1]
    grid_v, grid_out = torch.empty(256, 8), torch.empty(256, 8)
    grid_v[maps.windows], grid_out[maps.windows] = v, out
    for head in range(2):
        own = slice(4 * head, 4 * head + 4)
        assert torch.allclose(maps.matrix(1, head) @ grid_v[:, own], grid_out[:, own], atol=1e-5)


class LargestTensor(TorchDispatchMode):
    """The most entries of any tensor that is created."""
    entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.entries = max(self.entries, tensor.numel())
        return out


def test_4096_tokens_in_bounded_memory():
    """A segmenter with 4096 tokens: no tensor of the size of its attention is ever created."""
    model, _ = build('fan')
    with torch.no_grad(), LargestTensor() as largest:
        with capture_attention(model) as captured:
            model(torch.randn(1, 3, 1024, 1024))
        statistics = attention_statistics(captured['blocks.1.attn'])
    assert captured['blocks.1.attn'].shape == (1, 2, 4096, 4096)
    assert statistics['head_similarity'].isfinite().all()
    assert largest.entries < 4096 * 4096


def test_dtype_and_choice_of_layers():
    model, images = build('fan')
    with torch.no_grad(), capture_attention(model, [-1], torch.float16) as captured:
        model(images)
    assert list(captured) == ['blocks.1.attn']
    assert captured['blocks.1.attn'].query.dtype == torch.float16
    assert captured['blocks.1.attn'].matrix().dtype == torch.float32
    assert select_layers(['a', 'b'], ['b', '0']) == ['b', 'a']


def test_additive_mask():
    """BEiT and its like hand a bias of positions to the attention function."""
    layer = nn.Module()
    layer.scaled_dot_product_attention = nn.functional.scaled_dot_product_attention
    q, bias = torch.randn(1, 2, 5, 4), torch.randn(1, 2, 5, 5)
    with capture_attention(layer) as captured:
        out = layer.scaled_dot_product_attention(q, q, q, attn_mask=bias)
    assert torch.allclose(captured[''].matrix(head=1) @ q[0, 1], out[0, 1], atol=1e-6)


def test_one_sentence_each():
    with pytest.raises(ValueError, match='Linear has no self-attention that can be captured'):
        attention_layers(nn.Linear(1, 1))
    model, _ = build('fan')
    for layer in (2, '-3', 'blocks.7.attn'):
        with pytest.raises(ValueError, match=f"no attention layer '{layer}': the model has 2, 0 "
                                             'blocks.0.attn to 1 blocks.1.attn'):
            with capture_attention(model, [layer]):
                pass


def test_maps_without_an_image():
    with pytest.raises(ValueError, match='belong to no image'):
        AttentionMaps.of(torch.ones(1, 1, 4, 4)).grid_of(4)
