"""Reading checkpoints of strangers runs nothing of theirs."""
import argparse
import os
import pickle
import warnings

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader, Runner, load_checkpoint
from torch import nn

from mmrobust.checkpoints import guard_loading, load_foreign, save_checkpoint


class Evil:
    """Unpickling it creates a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


class Stranger:
    """Harmless, but of a class that no checkpoint needs."""


@pytest.fixture
def guard():
    """Guards MMEngine's loading for one test."""
    with guard_loading():
        yield


def write_zip(content, path):
    torch.save(content, path)


def write_legacy(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def write_pickle(protocol):
    return lambda content, path: path.write_bytes(pickle.dumps(content, protocol))


WRITERS = dict(zip=write_zip, legacy=write_legacy, pickle2=write_pickle(2),
               pickle3=write_pickle(3), pickle4=write_pickle(4), pickle5=write_pickle(5))


@pytest.mark.parametrize('writer', WRITERS)
@pytest.mark.parametrize('suffix', ['.pth', '.pth.tar'])
def test_malicious_file_is_refused_and_runs_only_when_trusted(tmp_path, writer, suffix):
    made, path = tmp_path / 'made', tmp_path / f'a{suffix}'
    WRITERS[writer](dict(state_dict=dict(w=torch.ones(2)), args=Evil(made)), path)
    with pytest.raises(ValueError, match=r"a\.pth.*asks to run .*(posix|nt)\.mkdir, .*--trust"):
        load_foreign(path)
    assert not made.exists()
    if writer in ('zip', 'legacy'):
        assert load_foreign(path, trust=True)['state_dict']['w'].sum() == 2
        assert made.is_dir()


def test_blocked_module_is_named(tmp_path):
    path = tmp_path / 'a.pth'
    path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(ValueError, match=r'asks to run os\.system'):
        load_foreign(path)


def test_what_only_resembles_a_pickle_is_damaged(tmp_path):
    path = tmp_path / 'a.pth'
    with path.open('wb') as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match=r'is damaged or no checkpoint'):
        load_foreign(path)


def test_malicious_file_is_refused_by_mmengine(tmp_path, guard):
    made, path = tmp_path / 'made', tmp_path / 'a.pth'
    torch.save(dict(state_dict={}, extra=Evil(made)), path)
    for load in (lambda: load_checkpoint(nn.Linear(1, 1), str(path)),
                 lambda: CheckpointLoader.load_checkpoint(str(path), 'cpu'),
                 lambda: torch.load(path, weights_only=False)):
        with pytest.raises((ValueError, pickle.UnpicklingError), match='mkdir'):
            load()
    assert not made.exists()


def test_getattr_serves_only_the_statistics_of_history_buffers(tmp_path):
    buffer = HistoryBuffer([1., 2.], [1, 1])
    torch.save(dict(buffer=buffer), tmp_path / 'a.pth')
    assert load_foreign(tmp_path / 'a.pth')['buffer'].mean() == 1.5

    class Reach:
        def __reduce__(self):
            return getattr, (HistoryBuffer, '__init__')

    torch.save(dict(x=Reach()), tmp_path / 'b.pth')
    with pytest.raises(ValueError, match=r'asks to run getattr\(HistoryBuffer,__init__\),'):
        load_foreign(tmp_path / 'b.pth')


def test_stranger_is_named(tmp_path):
    torch.save(dict(x=Stranger()), tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=r'asks to run \S*test_checkpoints\.Stranger'):
        load_foreign(tmp_path / 'a.pth')
    assert isinstance(load_foreign(tmp_path / 'a.pth', trust=True)['x'], Stranger)


def test_what_training_code_leaves_in_checkpoints_is_read(tmp_path):
    content = dict(args=argparse.Namespace(lr=.1, name='x'), metric=np.float64(84.3),
                   epoch=np.int64(3), curve=np.arange(3, dtype=np.float32), flag=np.bool_(True),
                   names=np.array(['a', 'b']), weight=nn.Parameter(torch.ones(2)))
    torch.save(content, tmp_path / 'a.pth')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        read = load_foreign(tmp_path / 'a.pth')
    assert read['args'] == content['args']
    assert (read['metric'], read['epoch'], read['flag']) == (84.3, 3, True)
    np.testing.assert_array_equal(read['curve'], content['curve'])
    assert read['names'].tolist() == ['a', 'b']


def test_names_of_numpy_1_are_read(tmp_path):
    text = pickle.dumps(np.float64(2.5), 2).replace(b'numpy._core', b'numpy.core')
    assert b'numpy.core' in text
    magic = b''.join(pickle.dumps(x, 2) for x in (
        torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION,
        dict(little_endian=True)))
    (tmp_path / 'a.pth').write_bytes(magic + text + pickle.dumps([], 2))
    assert load_foreign(tmp_path / 'a.pth') == 2.5


@pytest.mark.parametrize('content, message', [
    (b'', 'is empty'),
    (b'<!DOCTYPE html><html>Quota exceeded</html>', 'damaged or no checkpoint'),
    (b'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a', 'damaged or no checkpoint'),
    (bytes(range(256)) * 4, 'damaged or no checkpoint'),
])
@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_no_checkpoint(tmp_path, content, message, suffix):
    path = tmp_path / f'a{suffix}'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_foreign(path)
    with pytest.raises(ValueError, match=message):
        load_foreign(path, trust=True)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('keep', [.02, .5, .99])
def test_truncated_file(tmp_path, suffix, keep):
    path = tmp_path / f'a{suffix}'
    save_checkpoint(dict(state_dict=dict(w=torch.rand(50, 50))), path)
    path.write_bytes(path.read_bytes()[:int(keep * path.stat().st_size)])
    with pytest.raises(ValueError, match=f'a{suffix}.* is damaged or no checkpoint'):
        load_foreign(path)


def test_truncated_legacy_file(tmp_path):
    write_legacy(dict(w=torch.rand(50, 50)), tmp_path / 'a.pth')
    text = (tmp_path / 'a.pth').read_bytes()
    for size in (100, len(text) // 2, len(text) - 3):
        (tmp_path / 'a.pth').write_bytes(text[:size])
        with pytest.raises(ValueError, match='is damaged or no checkpoint'):
            load_foreign(tmp_path / 'a.pth')


def test_bytes_that_changed_in_the_middle_are_noticed(tmp_path):
    path = tmp_path / 'a.pth'
    torch.save(dict(state_dict=dict(weight=torch.full((4096,), 3.))), path)
    content = path.read_bytes()
    middle = content.index(b'\0\0\x40\x40' * 1024)  # 3. in single precision
    path.write_bytes(content[:middle] + bytes(1024) + content[middle + 1024:])
    assert len(torch.load(path, weights_only=True)['state_dict']['weight'].unique()) == 2
    with pytest.raises(ValueError, match='a.pth. is damaged'):
        load_foreign(path)


def test_missing_file_says_how_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no .*a.pth.*convert_official.py SRC'):
        load_foreign(tmp_path / 'a.pth')


def test_official_names_are_not_loaded_as_if_they_were_ours(tmp_path, guard):
    for keys in (['blocks.0.dilation_predictor.proj.0.weight'],
                 ['decode_head.linear_pred.weight'],
                 ['module.head.weight', 'module.cls_attn_blocks.0.gamma1']):
        torch.save(dict(state_dict_ema={k: torch.ones(1) for k in keys}), tmp_path / 'a.pth')
        with pytest.raises(ValueError, match='convert it first with `python tools/converters'):
            load_checkpoint(nn.Linear(1, 1), str(tmp_path / 'a.pth'))


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_saved_checkpoint_is_loaded_by_mmengine(tmp_path, guard, suffix):
    path = tmp_path / 'deep' / f'a{suffix}'
    weights = nn.Linear(3, 2).state_dict()
    weights['weight'] = weights['weight'].t().contiguous().t()
    save_checkpoint(dict(state_dict=weights, meta=dict(source='x')), path)
    model = nn.Linear(3, 2)
    checkpoint = load_checkpoint(model, str(path), strict=True)
    assert torch.equal(model.weight, weights['weight'])
    assert checkpoint['meta'] == dict(source='x')
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_failed_saving_keeps_the_earlier_file(tmp_path):
    path = tmp_path / 'a.pth'
    save_checkpoint(dict(state_dict=dict(w=torch.ones(1))), path)
    with pytest.raises(Exception, match='pickle|local object'):
        save_checkpoint(dict(state_dict=lambda: 0), path)
    assert load_foreign(path)['state_dict']['w'] == 1
    assert [p.name for p in tmp_path.iterdir()] == ['a.pth']


class Regression(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, inputs, target, mode):
        return dict(loss=(self.linear(inputs) - target).square().mean())


def runner(work_dir, name, **kwargs):
    data = [dict(inputs=torch.rand(2), target=torch.rand(1)) for _ in range(8)]
    return Runner(
        Regression(), str(work_dir), experiment_name=name,
        train_dataloader=dict(dataset=data, batch_size=2, num_workers=0,
                              collate_fn=dict(type='default_collate'),
                              sampler=dict(type='DefaultSampler', shuffle=True)),
        train_cfg=dict(by_epoch=True, max_epochs=kwargs.pop('epochs')),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=.1)),
        param_scheduler=[dict(type='LinearLR', start_factor=.1, end=1), dict(
            type='CosineAnnealingLR', begin=1, T_max=4)],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2)),
        custom_hooks=[dict(type='EMAHook')], default_scope='mmengine', **kwargs)


def test_checkpoints_of_a_training_run_load_and_resume_safely(tmp_path, guard, capfd):
    runner(tmp_path, 'first', epochs=2).train()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        checkpoint = load_foreign(tmp_path / 'epoch_2.pth')
    assert {'state_dict', 'optimizer', 'message_hub', 'param_schedulers'} <= checkpoint.keys()

    resumed = runner(tmp_path, 'second', epochs=3, resume=True)
    resumed.train()
    assert resumed.epoch == 3
    assert len(resumed.message_hub.get_scalar('train/loss').data[0]) == 12
    fresh = Regression()
    load_checkpoint(fresh, str(tmp_path / 'epoch_2.pth'))
    assert torch.equal(fresh.linear.weight, checkpoint['state_dict']['linear.weight'])
    printed = ''.join(capfd.readouterr())
    assert 'Could not safely load' not in printed and 'weights_only' not in printed


@pytest.mark.parametrize('trust', [False, True])
def test_the_guard_ends_with_its_context(tmp_path, monkeypatch, trust):
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', raising=False)
    path = tmp_path / 'own.pth'
    torch.save(dict(own=Stranger()), path)
    loader = CheckpointLoader._get_checkpoint_loader(str(path))
    with pytest.raises(RuntimeError, match='stop'), guard_loading(trust):
        assert CheckpointLoader._get_checkpoint_loader(str(path)) is not loader
        raise RuntimeError('stop')
    assert CheckpointLoader._get_checkpoint_loader(str(path)) is loader
    assert 'TORCH_FORCE_WEIGHTS_ONLY_LOAD' not in os.environ
    assert isinstance(torch.load(path, weights_only=False)['own'], Stranger)
