"""Patch-wise augmentation."""
import pytest
import torch
from mmengine.model import ImgDataPreprocessor

from mmrobust.models.layers.patch_augmentation import PatchAugmentation, augment_patches


def to_patches(images):
    return images.unfold(2, 4, 4).unfold(3, 4, 4)  # (B, C, rows, columns, 4, 4)


def test_nothing_happens_without_probability():
    images = torch.randn(2, 3, 8, 16)
    out = augment_patches(images, 4, prob=0)
    assert torch.equal(out, images)


def test_the_input_stays_as_it_was():
    images = torch.randn(1, 3, 4, 4)  # a single patch: the patches could be a view
    before = images.clone()
    assert not torch.equal(augment_patches(images, 4, prob=1), before)
    assert torch.equal(images, before)


def test_each_patch_keeps_its_place_and_is_mirrored():
    images = torch.randn(2, 3, 8, 16)
    out = augment_patches(images, 4, prob=1, scale=(1, 1), noise_std=0)
    torch.testing.assert_close(to_patches(out), to_patches(images).flip(-1))


def test_crop_stays_inside_the_patch():
    # each patch is a ramp from 0 to 3: a crop of a quarter of the area spans at most half of it
    ramp = torch.arange(4.0).tile(2).expand(1, 1, 8, 8)
    out = to_patches(augment_patches(ramp, 4, prob=1, scale=(0.25, 0.25), noise_std=0))
    span = out[..., 0] - out[..., 3]  # mirrored
    assert out.min() >= 0 and out.max() <= 3
    assert (span > 0).all() and (span <= 1.5 + 1e-5).all()


def test_share_of_changed_patches():
    torch.manual_seed(0)
    images = torch.randn(8, 3, 128, 128)
    changed = (to_patches(augment_patches(images, 4)) != to_patches(images)).any(-1).any(-1).any(1)
    # 8192 patches, each left alone with probability 0.9^3
    assert abs(changed.float().mean().item() - (1 - 0.9**3)) < 0.02


def test_module_keeps_the_image_range():
    module = PatchAugmentation(patch_size=4, prob=1.0)
    assert module(torch.full((1, 3, 8, 8), 9.)).max() > 8  # it knows no range of its own
    module.prepare(ImgDataPreprocessor(mean=(100, 100, 100), std=(50, 50, 50)))
    out = module(torch.full((1, 3, 8, 8), 3.1, requires_grad=True))
    assert out.max().item() == pytest.approx(3.1) and not module.state_dict()
    assert not out.requires_grad
    assert module(torch.full((1, 3, 8, 8), -3.0)).min().item() == pytest.approx(-2)


def test_patches_must_tile_the_image():
    with pytest.raises(ValueError, match='patches of 16 pixels do not tile an image of 32 x 40'):
        augment_patches(torch.zeros(1, 3, 32, 40))
