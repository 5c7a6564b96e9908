"""RVT: variants, options, sizes and errors. Figures of the authors: test_rvt_parity.py."""
import json

import backbone_checks as checks
import pytest
import torch
from mmengine.registry import MODELS

from mmrobust.models.backbones.rvt import RVT

TAP = dict(num_branches=4)
TOY = dict(embed_dims=(16, 32), depths=(2, 1), num_heads=(2, 4))
VARIANTS = {
    'plain': dict(),
    'tap': dict(tap=TAP),
    'plus': dict(masked_blocks=2),
    'tap_plus_linear': dict(tap=TAP, masked_blocks=1, mlp='linear'),
    'multi_kernel': dict(tap=dict(num_branches=2, mode='multi_kernel')),
}


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys())
def variant(request):
    torch.manual_seed(0)
    return dict(arch=dict(TOY), out_type='avg_featmap', **request.param)


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def count(**kwargs):
    """Parameters in all, with a linear head of 1000 classes."""
    with torch.device('meta'):
        model = RVT(out_type='avg_featmap', **kwargs)
    return sum(p.numel() for p in model.parameters()) + 1000 * (model.norm.weight.numel() + 1)


@pytest.mark.parametrize('arch', RVT.arch_zoo)
def test_parameter_counts_of_the_repositories(shared, arch):
    variants = json.loads((shared / 'reference' / 'variants.json').read_text())['variants']
    assert count(arch=arch) == variants[f'rvt_{arch}']['num_parameters']
    # the TAP repository builds the convolutional feed-forward network at any width
    assert count(arch=arch, tap=TAP, mlp='conv') == variants[f'tap_rvt_{arch}']['num_parameters']


@pytest.mark.parametrize('kwargs, published', [
    (dict(), 91.756e6), (dict(tap=TAP), 92.090e6)])
def test_published_parameter_counts(kwargs, published):
    assert count(arch='base_plus', masked_blocks=12, **kwargs) == pytest.approx(published, abs=1e3)


def test_gradients(variant):
    checks.check_gradients(RVT(**variant), images(2, 3, 64, 64))


def test_checkpointing(variant):
    variant['drop_path_rate'] = .3
    checks.check_checkpointing(RVT(**variant), RVT(**variant, with_cp=True), images(2, 3, 64, 48))


def test_autocast(variant):
    checks.check_autocast(RVT(**variant), images(2, 3, 64, 64))


def test_round_trip(variant):
    checks.check_round_trip(RVT(**variant), RVT(**variant), images(1, 3, 48, 64))


def test_diversification_is_the_dense_formula(variant):
    checks.check_diversification(RVT(**variant), images(2, 3, 64, 96), num_layers=3)


def test_maps_of_non_square_images(variant):
    variant['out_type'] = 'featmap'
    model = RVT(**variant, out_indices=(0, -1)).eval()
    first, last = model(images(1, 3, 48, 112))
    assert first.shape == (1, 16, 3, 7)
    assert last.shape == (1, 32, 2, 4)  # odd sides round up


def test_pooling_sees_the_true_grid():
    """A 4 x 9 grid is as many tokens as a 6 x 6 one: neighbours must not wrap around."""
    torch.manual_seed(0)
    model = RVT(dict(embed_dims=(16,), depths=(1,), num_heads=(2,)), tap=TAP).eval()
    x = images(1, 3, 64, 144)
    seen = {}
    model.transformers[0]['blocks'][0].tap.register_forward_hook(
        lambda module, args, out: seen.update(shape=args[0].shape))
    model(x)
    assert seen['shape'] == (1, 16, 4, 9)


def test_small_patches_for_small_images():
    model = RVT(dict(TOY, patch_size=4), out_type='avg_featmap')
    assert model(images(2, 3, 32, 32))[0].shape == (2, 32)
    assert model.patch_embed(images(2, 3, 32, 32)).shape == (2, 16, 8, 8)


def test_drop_path_grows_over_all_stages():
    model = RVT(dict(TOY), drop_path_rate=.3)
    rates = [getattr(block.drop_path, 'drop_prob', 0.)
             for stage in model.transformers for block in stage['blocks']]
    assert rates == pytest.approx([0., .1, .2])


def test_frozen_stages():
    model = RVT(dict(TOY), frozen_stages=2, tap=TAP).train()
    trained = {n.split('.blocks')[0] for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {'transformers.1'}
    assert not model.patch_embed.training and model.transformers[1].training


def test_position_mask():
    model = RVT(dict(TOY), masked_blocks=1, mask_tokens=12).eval()
    blocks = model.transformers[0]['blocks']
    assert blocks[0].attn.att_mask.shape == (2, 12, 12) and blocks[1].attn.att_mask is None
    assert model(images(1, 3, 48, 64))[0].shape == (1, 32, 2, 2)
    with pytest.raises(ValueError, match='16 tokens are more than the 12 .* mask_tokens=16'):
        model(images(1, 3, 64, 64))


@pytest.mark.parametrize('kwargs, message', [
    (dict(arch='huge'), "unknown RVT arch 'huge'"),
    (dict(arch=dict(depths=(1,), embed_dims=(8,), num_heads=(1,), widths=(8,))),
     'has widths, which means nothing: known are'),
    (dict(arch=dict(depths=(1,))), 'lacks embed_dims, num_heads'),
    (dict(mlp='gated'), "mlp='gated': choose 'conv' or 'linear'"),
    (dict(masked_blocks=13), 'masked_blocks=13 is outside 0 ... 12'),
    (dict(out_type='cls_token'), "choose 'featmap' or 'avg_featmap'"),
    (dict(drop_path_rate=1.), r'outside \[0, 1\)'),
    (dict(frozen_stages=13), 'frozen_stages=13 is outside -1 ... 12'),
    (dict(out_indices=(12,)), r'out_indices \[12\] are outside -12 ... 11'),
    (dict(arch=dict(TOY, patch_size=32)), 'patch_size=32'),
    (dict(arch=dict(TOY, num_heads=(3, 4))), 'num_heads=3 does not divide'),
])
def test_errors(kwargs, message):
    with torch.device('meta'), pytest.raises(ValueError, match=message):
        RVT(**kwargs)


def test_too_small_image():
    with pytest.raises(ValueError, match='an image of 8 x 64 pixels has no token'):
        RVT(dict(TOY))(images(1, 3, 8, 64))


def test_registered():
    assert isinstance(MODELS.build(dict(type='RVT', arch=dict(TOY))), RVT)

@pytest.mark.parametrize(('out_indices', 'blocks', 'pools'), [((0,), [1], 0), ((1,), [2], 0),
                                                              ((0, -1), [2, 1], 1)])
def test_only_what_is_used_is_built(out_indices, blocks, pools):
    model = RVT(arch=TOY, out_type='featmap', out_indices=out_indices).train()
    assert [len(stage['blocks']) for stage in model.transformers] == blocks
    assert len(model.pools) == pools
    sum(x.square().mean() for x in model(images(2, 3, 32, 48))).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
