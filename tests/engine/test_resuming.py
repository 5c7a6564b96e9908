"""A resumed run is the run that was interrupted."""
import copy
from functools import partial

import pytest
import torch
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmengine.registry import DATASETS
from test_adversarial_optim_wrapper import MODEL, OPTIM, Images
from tiny import Crash, assert_same_end, final_state, tiny_config

from mmrobust.apis import train


def crash_and_resume(folder, at, **options):
    hooks = options.pop('hooks', [])
    with pytest.raises(Crash):
        train(tiny_config(folder, hooks=[*hooks, dict(type='CrashHook', at=at)], **options))
    train(tiny_config(folder, hooks=hooks, resume=True, **options))


@pytest.mark.parametrize('by_epoch', [False, True])
@pytest.mark.parametrize('workers', [0, 2])
def test_bit_equal(tmp_path, by_epoch, workers):
    options = dict(by_epoch=by_epoch, workers=workers)
    train(tiny_config(tmp_path / 'straight', **options))
    crash_and_resume(tmp_path / 'resumed', 11, **options)
    assert_same_end(tmp_path / 'resumed', tmp_path / 'straight')


def test_workers_change_nothing(tmp_path):
    for workers in (0, 1, 3):
        train(tiny_config(tmp_path / str(workers), workers=workers))
    assert_same_end(tmp_path / '1', tmp_path / '0')
    assert_same_end(tmp_path / '3', tmp_path / '0')


@pytest.mark.parametrize('options', [
    dict(hooks=[dict(type='EMAHook', momentum=.1)]),
    dict(accumulate=3, interval=5),  # saved in the midst of an accumulation
    dict(randomness=dict(seed=None)),  # a seed that was drawn
    dict(by_epoch=True, checkpoint=dict(by_epoch=False, interval=4)),  # in the midst of an epoch
    dict(by_epoch=True, param_scheduler=[dict(
        type='ReduceOnPlateauLR', monitor='tiny/accuracy', rule='greater', patience=0,
        factor=.5, by_epoch=True)]),
], ids=['ema', 'accumulation', 'no seed', 'within an epoch', 'plateau'])
def test_what_else_has_a_state(tmp_path, options):
    options = dict(options)
    if options.get('checkpoint'):
        options['interval'] = options['checkpoint'].pop('interval')
        options['default_hooks'] = dict(checkpoint=dict(
            type='CheckpointHook', by_epoch=False, interval=4, max_keep_ckpts=1))
        options['checkpoint'] = None
    crash_and_resume(tmp_path / 'resumed', 11, **copy.deepcopy(options))
    if 'randomness' in options:  # the same seed as was drawn
        from mmrobust.checkpoints import latest_checkpoint
        options['randomness'] = dict(seed=latest_checkpoint(tmp_path / 'resumed').seed)
    train(tiny_config(tmp_path / 'straight', **options))
    assert_same_end(tmp_path / 'resumed', tmp_path / 'straight')


@pytest.mark.parametrize('amp', [
    {}, dict(type='CPUAmpOptimWrapper'), dict(type='AmpOptimWrapper', dtype='bfloat16')],
    ids=['float32', 'bfloat16', 'loss scale'])
def test_a_classifier_with_an_adversary(tmp_path, monkeypatch, amp):
    """MMPretrain's, a FAN with drop path and AFAT: two optimizers, and the loss scale of both."""
    if not hasattr(torch.amp, 'GradScaler'):
        pytest.skip('torch before 2.3 has no loss scale on the CPU')
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    monkeypatch.setattr(amp_optimizer_wrapper, 'GradScaler', partial(
        torch.amp.GradScaler, 'cpu', growth_interval=3))
    DATASETS.register_module(name='FixedImages', module=Images, force=True)
    options = dict(
        default_scope='mmpretrain', length=6, optim_wrapper={**OPTIM, **amp},
        model={**MODEL, 'backbone': {**MODEL['backbone'], 'drop_path_rate': .5}},
        train_dataloader=dict(dataset=dict(type='FixedImages'), batch_size=4, num_workers=2,
                              sampler=dict(type='InfiniteSampler'),
                              collate_fn=dict(type='pseudo_collate')),
        val_cfg=None, val_dataloader=None, val_evaluator=None,
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2)))
    train(tiny_config(tmp_path / 'straight', **options))
    crash_and_resume(tmp_path / 'resumed', 5, **options)
    assert_same_end(tmp_path / 'resumed', tmp_path / 'straight')
    assert any('adversary' in name and 'momentum' in name
               for name in final_state(tmp_path / 'resumed')[1])


def test_a_validation_that_was_cut_off_is_made_up_for(tmp_path):
    train(tiny_config(tmp_path / 'straight'))
    train(tiny_config(tmp_path / 'cut', val_cfg=None, val_dataloader=None, val_evaluator=None,
                      default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False,
                                                         interval=5))))
    assert not list((tmp_path / 'cut').glob('best_*'))
    runner = train(tiny_config(tmp_path / 'cut', resume=True))
    assert 'best_score' in runner.message_hub.runtime_info
    assert list((tmp_path / 'cut').glob('best_*'))


def test_the_best_checkpoint_is_the_same(tmp_path):
    """Workers of a validation draw the same numbers before and after an interruption."""
    train(tiny_config(tmp_path / 'straight', workers=2))
    crash_and_resume(tmp_path / 'resumed', 9, workers=2)
    best, again = ([torch.load(path, weights_only=False)['state_dict'] for path in (
        tmp_path / name).glob('best_*_iter_*.pth')] for name in ('straight', 'resumed'))
    torch.testing.assert_close(best, again, rtol=0, atol=0)


def test_the_main_process_keeps_its_own_draws():
    from mmrobust.engine.numbered_data import Draw, NumberedDataset

    data = NumberedDataset(DATASETS.build(dict(type='TinyData')), seed=1)
    before = torch.get_rng_state()
    first, again, other = (data[Draw(3, place)]['inputs'] for place in ((0, 0, 7), (0, 0, 7),
                                                                          (0, 0, 8)))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)
    assert data.metainfo == dict(classes=('a', 'b')) and len(data) == 13


def test_the_sample_order_goes_on(tmp_path):
    train(tiny_config(tmp_path, length=4))
    assert final_state(tmp_path)[0] == 4
