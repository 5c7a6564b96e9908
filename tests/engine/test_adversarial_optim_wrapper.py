"""A model's optimizer and its adversary's: one backward, one loss scale, two updates."""
from functools import partial

import pytest
import torch
import torch.distributed as dist
from groups import Group
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import AmpOptimWrapper
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmengine.registry import MODELS
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from torch import nn

from mmrobust.engine.adversarial_optim_wrapper import AdversarialOptimWrapperConstructor

MODEL = dict(
    type='RobustModel', host='mmpretrain.ImageClassifier',
    backbone=dict(type='FAN', out_type='cls_token', arch=dict(
        patch_embed='conv', patch_size=8, depths=(1,), embed_dims=(16,), num_heads=(2,))),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=16),
    data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', mean=[127.5] * 3,
                           std=[127.5] * 3, num_classes=3),
    alignment=dict(type='AdversarialFeatureAlignment', gradient_scale=1., corruption=dict(
        type='PatchCorruptionModel', grid=4, patch_size=8, ratio=.25, fill='drop')))
OPTIM = dict(type='OptimWrapper', constructor='AdversarialOptimWrapperConstructor',
             optimizer=dict(type='AdamW', lr=1e-3),
             paramwise_cfg=dict(bias_lr_mult=2.), adversary=dict(lr=.1))


class Images(torch.utils.data.Dataset):
    """Twelve images that are the same in every process."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        image = torch.randint(0, 256, (3, 32, 32), generator=generator, dtype=torch.uint8)
        return dict(inputs=image, data_samples=DataSample().set_gt_label(index % 3))


def build_model(**changes):
    torch.manual_seed(0)
    return MODELS.build({**MODEL, **changes})


def build_wrapper(model, **changes):
    cfg = {**OPTIM, **changes}
    cfg.pop('constructor')
    return AdversarialOptimWrapperConstructor(cfg, cfg.pop('paramwise_cfg'))(model)


def data(indices=range(4)):
    samples = [Images()[i] for i in indices]
    return dict(inputs=[s['inputs'] for s in samples],
                data_samples=[s['data_samples'] for s in samples])


def batch_norm_is_fixed(model):
    """Statistics of a part are not those of the whole."""
    for module in model.train().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return model


def test_who_optimizes_what():
    model = build_model()
    wrapper = build_wrapper(model)
    own = {id(p) for group in wrapper.optimizer.param_groups for p in group['params']}
    adversary = {id(p) for group in wrapper.adversary.optimizer.param_groups
                 for p in group['params']}
    assert adversary == {id(p) for p in model.alignment.parameters()}
    assert own == {id(p) for p in model.parameters()} - adversary
    group = wrapper.adversary.optimizer.param_groups[0]
    assert (group['lr'], group['momentum'], group['nesterov'], group['weight_decay']) == \
        (.1, .9, True, .05)
    assert wrapper.adversary.clip_grad_kwargs == dict(max_norm=5.)


def test_training_moves_both():
    model = build_model()
    wrapper = build_wrapper(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.train().train_step(data(), wrapper)
    for name, p in model.named_parameters():
        assert p.grad is None
        assert not torch.equal(p, before[name]), name


def test_accumulation_equals_one_batch():
    results = []
    for counts, parts in ((1, [range(4)]), (2, [range(2), range(2, 4)])):
        model = batch_norm_is_fixed(build_model())
        wrapper = build_wrapper(model, accumulative_counts=counts,
                                optimizer=dict(type='SGD', lr=.1))
        for part in parts:
            model.train_step(data(part), wrapper)
        results.append(model.state_dict())
    torch.testing.assert_close(*results)


@pytest.fixture
def scaled_wrapper(monkeypatch):
    """Builds MMEngine's own AMP wrapper, with its loss scale, on the CPU."""
    if not hasattr(torch.amp, 'GradScaler'):
        pytest.skip('torch before 2.3 scales losses on a GPU only')
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    monkeypatch.setattr(amp_optimizer_wrapper, 'GradScaler', partial(
        torch.amp.GradScaler, 'cpu', growth_interval=1))
    return partial(build_wrapper, type='AmpOptimWrapper', loss_scale='dynamic', dtype='bfloat16')


@pytest.mark.parametrize('clip_grad', [None, dict(max_norm=1.)])
def test_adversary_is_unscaled(scaled_wrapper, clip_grad):
    results = []
    for build in (build_wrapper, scaled_wrapper):
        model = build_model()
        wrapper = build(model, clip_grad=clip_grad)
        for _ in range(3):  # the scale doubles every time
            wrapper.update_params(model.parse_losses(model.train().loss(
                **model.data_preprocessor(data(), True)))[0])
        results.append(model.state_dict())
    assert isinstance(wrapper, AmpOptimWrapper)
    assert wrapper.loss_scaler.get_scale() == 2. ** 19
    torch.testing.assert_close(*results)


def test_overflow_skips_the_adversary_and_lowers_the_scale(scaled_wrapper):
    model = build_model()
    wrapper = scaled_wrapper(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    loss = sum((p * float('inf')).sum() if 'alignment' in name else p.sum()
               for name, p in model.named_parameters())
    wrapper.update_params(loss)
    assert wrapper.loss_scaler.get_scale() == 2. ** 15
    for name, p in model.named_parameters():
        # the model's own gradients were finite
        assert torch.equal(p, before[name]) == ('alignment' in name)


def runner(work_dir, epochs, **kwargs):
    return Runner(
        model=build_model(), work_dir=str(work_dir), default_scope='mmpretrain',
        train_dataloader=dict(dataset=Images(), batch_size=4, num_workers=0,
                              sampler=dict(type='DefaultSampler', shuffle=False)),
        train_cfg=dict(by_epoch=True, max_epochs=epochs), optim_wrapper=OPTIM,
        param_scheduler=[dict(type='LinearLR', start_factor=.1, end=6, by_epoch=False)],
        experiment_name=f'{work_dir.name}_{epochs}', randomness=dict(seed=0), **kwargs)


def test_resume_continues_both(tmp_path):
    straight = runner(tmp_path / 'a', 2)
    expected = straight.train().state_dict()
    runner(tmp_path / 'b', 1).train()
    resumed = runner(tmp_path / 'b', 2, resume=True)
    torch.testing.assert_close(resumed.train().state_dict(), expected)
    ours, theirs = (r.optim_wrapper.adversary.state_dict() for r in (resumed, straight))
    torch.testing.assert_close(ours['state'], theirs['state'])
    assert straight.optim_wrapper.adversary.get_lr()['lr'] == [.1]  # the schedule is the model's
    assert straight.optim_wrapper.get_lr()['lr'][0] != 1e-3 * .1


def test_resuming_from_a_training_without_adversary():
    model = build_model()
    wrapper = build_wrapper(model)
    state = wrapper.state_dict()
    del state['adversary']
    with pytest.raises(KeyError, match='load_from instead of resuming'):
        wrapper.load_state_dict(state)


def test_model_without_alignment():
    with pytest.raises(ValueError, match='has no alignment, hence no adversary'):
        build_wrapper(nn.Linear(2, 2))


def test_random_patches_need_no_adversary():
    alignment = dict(type='AdversarialFeatureAlignment', corruption=dict(
        type='RandomPatchCorruption', patch_size=8))
    wrapper = build_wrapper(build_model(alignment=alignment))
    assert not hasattr(wrapper, 'adversary')


def test_two_processes_equal_one(tmp_path):
    def work():
        dist.init_process_group('gloo')
        model, rank = batch_norm_is_fixed(build_model()), dist.get_rank()
        wrapper = build_wrapper(model, optimizer=dict(type='SGD', lr=.1))
        ddp = MMDistributedDataParallel(model, device_ids=None)
        for _ in range(2):
            ddp.train_step(data(range(2 * rank, 2 * rank + 2)), wrapper)
        if rank == 0:
            torch.save(model.state_dict(), tmp_path / 'state.pth')
        dist.destroy_process_group()

    assert Group(work, tmp_path / 'log', 2).wait() == [0, 0], (tmp_path / 'log').read_text()
    model = batch_norm_is_fixed(build_model())
    wrapper = build_wrapper(model, optimizer=dict(type='SGD', lr=.1))
    for _ in range(2):
        model.train_step(data(), wrapper)
    torch.testing.assert_close(torch.load(tmp_path / 'state.pth'), dict(model.state_dict()))
