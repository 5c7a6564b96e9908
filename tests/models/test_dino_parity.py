"""DINOv2 and DINOv3 against transformers and timm, with random weights that the converter takes.

Features of every block to 2e-5, gradients of the image and of the weights to 1e-4.
"""
import pytest
import torch
from torch import nn

from mmrobust.checkpoints import from_official
from mmrobust.models.backbones.dino import DINOv2, DINOv3

CLASSES = dict(DINOv2=DINOv2, DINOv3=DINOv3)
SIZES = [(56, 56), (112, 112), (112, 56), (70, 126)]  # of DINOv2, and times 16 / 14 of DINOv3
SIZE = dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=2)


def randomise(model: nn.Module) -> nn.Module:
    """Random weights in which every part counts."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        spread = torch.randn(parameter.shape, generator=generator)
        parameter.data = .2 * spread + (parameter.ndim == 1) * .3
    return model.eval()


def images(size, patch, batch=2):
    shape = [side // 14 * patch for side in size]
    return torch.randn(batch, 3, *shape, generator=torch.Generator().manual_seed(1))


def ours(theirs: nn.Module, **options) -> tuple[nn.Module, dict[str, str]]:
    """Our model with their weights, loaded strictly, and the new name of each."""
    conversion = from_official(theirs.state_dict(), num_heads=(2,))
    config = dict(conversion.recognition.backbone)
    model = CLASSES[config.pop('type')](**config, **options)
    model.load_state_dict({k.removeprefix('backbone.'): v
                           for k, v in conversion.state_dict.items()}, strict=True)
    return model.eval(), conversion.names


def hugging_face(version, **options):
    transformers = pytest.importorskip('transformers')
    if version == 3:
        return randomise(transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(
            **SIZE, intermediate_size=48, num_register_tokens=4, **options)))
    return randomise(transformers.Dinov2WithRegistersModel(
        transformers.Dinov2WithRegistersConfig(**SIZE, mlp_ratio=2, image_size=112, patch_size=14,
                                               **options)))


def in_timm(name, **options):
    timm = pytest.importorskip('timm')
    return randomise(timm.create_model(name, depth=3, embed_dim=32, num_heads=2, num_classes=0,
                                       **options))


# their gated networks take the activation from the config: silu in the published ones
HUGGING_FACE = [(3, dict()), (3, dict(use_gated_mlp=True, hidden_act='silu', query_bias=False,
                                      value_bias=False)),
                (2, dict()), (2, dict(use_swiglu_ffn=True))]
TIMM = [('vit_small_patch16_dinov3', dict(img_size=64)),
        ('vit_small_plus_patch16_dinov3_qkvb', dict(img_size=64)),
        ('vit_small_patch14_reg4_dinov2', dict(img_size=112, dynamic_img_size=True)),
        ('vit_giant_patch14_reg4_dinov2', dict(img_size=112, dynamic_img_size=True,
                                               mlp_ratio=4))]


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('version, options', HUGGING_FACE)
def test_features_of_hugging_face(version, options, size):
    theirs = hugging_face(version, **options)
    model, _ = ours(theirs, out_indices=(0, 1, 2))
    x = images(size, model.patch_size)
    with torch.no_grad():
        found = model(x)
        out = theirs(x, output_hidden_states=True)
        norm = theirs.norm if version == 3 else theirs.layernorm
        for own, hidden in zip(found, out.hidden_states[1:], strict=True):
            torch.testing.assert_close(own.flatten(2).transpose(1, 2), norm(hidden)[:, 5:],
                                       rtol=2e-5, atol=2e-5)
        model.out_type = 'cls_token'
        torch.testing.assert_close(model(x)[0], out.pooler_output, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('name, options', TIMM)
def test_features_of_timm(name, options, size):
    theirs = in_timm(name, **options)
    model, _ = ours(theirs, out_indices=(0, 1, 2))
    x = images(size, model.patch_size)
    with torch.no_grad():
        found = theirs.forward_intermediates(x, norm=True, intermediates_only=True)
        for own, other in zip(model(x), found, strict=True):
            torch.testing.assert_close(own, other, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize('version, options', HUGGING_FACE)
def test_gradients_of_hugging_face(version, options):
    theirs = hugging_face(version, **options)
    model, names = ours(theirs)
    x, other = (images((70, 98), model.patch_size).requires_grad_() for _ in range(2))
    model(x)[0].pow(3).mean().backward()
    theirs(other).last_hidden_state[:, 5:].pow(3).mean().backward()
    torch.testing.assert_close(x.grad, other.grad, rtol=1e-4, atol=1e-6)
    gradients = {n: p.grad for n, p in model.named_parameters()}
    compared = 0
    for name, parameter in theirs.named_parameters():
        new = names.get(name, '').removeprefix('backbone.')
        if parameter.grad is not None and new in gradients and (
                gradients[new].shape == parameter.shape):
            torch.testing.assert_close(gradients[new], parameter.grad, rtol=1e-4, atol=1e-5)
            compared += 1
    assert compared > 30


def test_augmentation_of_hugging_face():
    augmentation = dict(shift=.1, jitter=1.5, rescale=2.)
    theirs = hugging_face(3, **{f'pos_embed_{k}': v for k, v in augmentation.items()})
    model, _ = ours(theirs, rope_augmentation=augmentation)
    x = images((56, 112), 16)
    model.train(), theirs.train()
    torch.manual_seed(4)
    own = model(x)[0]
    torch.manual_seed(4)
    other = theirs(x).last_hidden_state[:, 5:]
    torch.testing.assert_close(own.flatten(2).transpose(1, 2), other, rtol=2e-5, atol=2e-5)
