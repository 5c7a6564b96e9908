"""Patch corruption and one training step of AFAT against the authors' code."""
import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from parity_tools import arrays, meta, to_ours

from mmrobust.engine.adversarial_optim_wrapper import AdversarialOptimWrapperConstructor
from mmrobust.models.alignment import PatchCorruptionModel
from mmrobust.models.alignment.corruption_models import LossScale

PREPROCESSOR = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], num_classes=7)
STEPS = ['afat_step_fan_lnb', 'afat_step_rvt', 'afat_step_rvt_patchreason']


def close(ours, theirs, tolerance):
    theirs = torch.as_tensor(np.asarray(theirs))
    bound = tolerance * max(1., theirs.abs().max().item())
    torch.testing.assert_close(ours, theirs, rtol=0, atol=bound)


@pytest.mark.parametrize(('case', 'ratio'), [('r10_64', .1), ('r25_64', .25), ('r10_96', .1)])
def test_corruption(parity, case, ratio):
    fixture = parity('afat_unit')
    given = arrays(fixture, case)
    model = PatchCorruptionModel(grid=given['image'].shape[-1] // 16, ratio=ratio)
    model.load_state_dict({'patch_embed.weight': given['conv_weight'],
                           'fc.weight': given['fc_weight']})
    low, high = (torch.tensor(meta(fixture)[f'clamp_{end}'])[:, None, None]
                 for end in ('low', 'high'))
    image = given['image'].requires_grad_()
    scores = model.scores(image)
    scores.retain_grad()
    close(scores.flatten(1), given['scores'], 2e-5)
    keep = model.keep(scores)
    assert torch.equal(keep.flatten(1), given['patch_keep_mask'])
    corrupted = model.occlude(image, keep, low, high, given['noise'])
    close(corrupted, given['noisy_clamped'], 2e-5)
    (corrupted * given['loss_weight']).sum().backward()
    close(scores.grad.flatten(1), given['grad_scores_after_clip'], 1e-4)
    close(model.patch_embed.weight.grad, given['grad_conv_weight'], 1e-4)
    close(model.fc.weight.grad, given['grad_fc_weight'], 1e-4)
    close(image.grad, given['grad_image'], 1e-4)


def test_selection_at_full_size(parity):
    given = arrays(parity('afat_unit'), 'select196')
    keep = PatchCorruptionModel(ratio=.1).keep(given['scores'].unflatten(1, (14, 14)))
    assert torch.equal(keep.flatten(1), given['keep'])
    # the last row's scores are all equal: a tie is not above the threshold
    assert (keep == 0).sum((1, 2)).tolist() == [20, 20, 20, 196]


def build(fixture, gradient_scale):
    """Our classifier with the fixture's weights; its corruption model too."""
    weights = arrays(fixture, 'sd')
    reasoning = any('patch_reasoning' in key for key in weights)
    if 'cls_token' in weights:
        backbone = dict(
            type='FAN', out_type='cls_token',
            arch=dict(patch_embed='hybrid', stem_depths=(1, 1), stem_dims=(16, 32),
                      depths=(3,), embed_dims=(48,), num_heads=(4,)))
    else:
        backbone = dict(type='RVT', out_type='avg_featmap', patch_reasoning=reasoning,
                        arch=dict(embed_dims=(48,), depths=(3,), num_heads=(4,)))
    model = MODELS.build(dict(
        type='RobustModel', host='mmpretrain.ImageClassifier', backbone=backbone,
        head=dict(type='mmpretrain.LinearClsHead', num_classes=7, in_channels=48,
                  loss=dict(type='mmpretrain.CrossEntropyLoss', use_soft=True)),
        data_preprocessor=PREPROCESSOR,
        alignment=dict(type='AdversarialFeatureAlignment', objective='total',
                       gradient_scale=gradient_scale,
                       corruption=dict(type='PatchCorruptionModel', grid=4, ratio=.25))))
    names = {key: 'head.fc.' + key.removeprefix('head.') if key.startswith('head.')
             else 'backbone.' + to_ours(key) for key in weights}
    corruption = {f'alignment.corruption.{key}': value
                  for key, value in arrays(fixture, 'occl_sd').items()}
    model.load_state_dict({names[key]: value for key, value in weights.items()} | corruption)
    return model, names


@pytest.mark.parametrize('scale', [1, 65536])
@pytest.mark.parametrize('name', STEPS)
def test_training_step(parity, monkeypatch, name, scale):
    """As published without, and with the loss scale that mixed precision left in the gradients."""
    fixture = parity(name)
    model, names = build(fixture, scale)
    images = torch.from_numpy(fixture['input'])
    samples = [DataSample().set_gt_score(torch.from_numpy(t)) for t in fixture['target']]
    with torch.no_grad():
        close(model.eval()(images), fixture['eval_logits'], 2e-5)

    tolerance = 1e-4 if scale == 1 else 1e-3
    monkeypatch.setattr(torch, 'rand_like', lambda _: torch.from_numpy(fixture['noise']))
    suffix = '' if scale == 1 else f'_scale{scale}'
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    wrapper = AdversarialOptimWrapperConstructor(
        dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3)))(model)
    losses = model.train().loss(images, samples)
    close(seen[0][:3], fixture['noisy'], 2e-5)
    close(seen[0][3:], fixture['input'], 0)
    close(losses['loss'], fixture['ce'], 2e-5)
    close(losses['loss_alignment'] / .005, fixture['align'], 2e-5)
    total, _ = model.parse_losses(losses)
    close(total, fixture['loss'], 2e-5)

    total.backward()
    for key, theirs in arrays(fixture, 'grad').items():
        close(model.get_parameter(names[key]).grad, theirs, 1e-4)
    corruption = model.alignment.corruption
    for key, theirs in arrays(fixture, f'occl_grad_raw{suffix}').items():
        close(-corruption.get_parameter(key).grad, theirs, tolerance)
    before = {key: p.detach().clone() for key, p in corruption.named_parameters()}
    wrapper.step()
    for key, theirs in arrays(fixture, f'occl_after_step{suffix}').items():
        close(corruption.get_parameter(key), theirs, 2e-5)
        # what was added is small beside the weights
        close((corruption.get_parameter(key) - before[key]) * 1e4,
              (theirs - before[key]) * 1e4, 1e-2)


def test_clipping_follows_the_loss_scale():
    scores = torch.randn(2, 4, 4).requires_grad_()
    weights = 3 * torch.randn(2, 4, 4)
    for factor in (1., 1024., .5):
        scores.grad, scale = None, LossScale()
        keep = PatchCorruptionModel(grid=4).keep(scores, scale)
        (scale.observe((keep * weights).sum()) * factor).backward()
        torch.testing.assert_close(scores.grad, weights.clamp(-1, 1) * factor)
