"""What is refused of a config before any work."""
import pytest
from mmengine.config import Config

from mmrobust.apis import load_config
from mmrobust.apis.checks import (
    check_environment,
    check_optional_parts,
    check_overrides,
    check_values,
    require_parts,
)

GOOD = dict(
    model=dict(type='X', head=dict(tau=2.)),
    train_dataloader=dict(batch_size=2, num_workers=0, dataset=dict(type='D')),
    train_cfg=dict(max_iters=3), val_cfg={}, val_evaluator=[dict(type='M')],
    optim_wrapper=dict(type='W', optimizer=dict(type='SGD', lr=.1)))


def config(**changes):
    cfg = Config(GOOD)
    cfg.merge_from_dict(changes)
    return cfg


def test_a_good_config_passes():
    check_values(config(), ('train', 'val', 'test'))
    require_parts(config(), 'model', 'val_cfg', 'val_evaluator', 'test_cfg|train_cfg')


@pytest.mark.parametrize('key,value,said', [
    ('train_dataloader.batch_size', 0, 'train_dataloader.batch_size=0: .* at least 1'),
    ('train_dataloader.batch_size', 1.5, 'a whole number'),
    ('train_dataloader.batch_size', True, 'a whole number'),
    ('train_dataloader.num_workers', -1, 'num_workers=-1: .* at least 0'),
    ('train_dataloader.persistent_workers', True, 'needs workers'),
    ('train_dataloader.sampler', None, 'train_dataloader.sampler=None: it must be a dict'),
    ('train_dataloader.dataset', 'x', "train_dataloader.dataset='x': it must be a dict"),
    ('train_cfg.max_iters', -5, 'train_cfg.max_iters=-5'),
    ('train_cfg.val_interval', 0, 'train_cfg.val_interval=0'),
    ('model.head.tau', float('nan'), 'model.head.tau=nan is not a number'),
    ('train_evaluator', dict(topk=(1, 0)), 'train_evaluator.topk=0'),
    ('optim_wrapper.optimizer.lr', 'abc', "optimizer.lr='abc': it must be a number"),
    ('optim_wrapper.optimizer.lr', float('inf'), 'optimizer.lr=inf'),
    ('optim_wrapper.optimizer.lr', -1, 'optimizer.lr=-1'),
    ('optim_wrapper.optimizer.type', 'SDG', "no such optimizer, did you mean SGD"),
])
def test_values(key, value, said):
    with pytest.raises(ValueError, match=said):
        check_values(config(**{key: value}), ('train',))


@pytest.mark.parametrize('name,value,said', [
    ('model', 1, 'has model=1: it must be a dict'), ('model', None, 'has no model: add it'),
    ('val_evaluator', [], 'it must be a dict'), ('train_cfg', [1], 'it must be a dict')])
def test_parts(name, value, said):
    cfg = config()
    cfg[name] = value
    with pytest.raises(ValueError, match=said):
        require_parts(cfg, name)


def test_overrides_that_nothing_reads():
    check_overrides(config(), ['model.head.tau', 'resume', 'load_from', 'tta_model'])
    with pytest.raises(ValueError, match="no 'trian_cfg', did you mean train_cfg"):
        check_overrides(config(), ['trian_cfg.max_iters'])


@pytest.mark.parametrize('name,value,said', [
    ('default_hooks', 5, 'has default_hooks=5: it must be a dict'),
    ('default_hooks', dict(checkpoint=5), 'has default_hooks.checkpoint=5: it must be a dict'),
    ('randomness', [1], 'has randomness=')])
def test_optional_parts(name, value, said):
    cfg = config(default_hooks=dict(timer=None, logger=dict(type='LoggerHook')), env_cfg=None)
    check_optional_parts(cfg)
    cfg[name] = value
    with pytest.raises(ValueError, match=said):
        check_optional_parts(cfg)


@pytest.mark.parametrize('name', ['LOCAL_RANK', 'SLURM_PROCID', 'MMROBUST_STOP_STATUS'])
def test_environment(monkeypatch, name):
    monkeypatch.setenv('RANK', '0')
    check_environment()
    monkeypatch.setenv(name, 'x')
    with pytest.raises(ValueError, match=f"{name}='x'"):
        check_environment()


@pytest.mark.parametrize('content,said', [
    (b'x = y', "line 1: NameError: name 'y' is not defined: correct it"),
    (b'\nx = 1 / 0', 'line 2: ZeroDivisionError'),
    (b'def f():\n    return f()\nx = f()', 'refers to itself'),
    (b'\xff\xfe', "can't decode byte"),
    (b'x = (', 'line 1: SyntaxError'),
    (b'import sys\nsys.exit(3)', 'line 2: SystemExit: 3'),
    (b"raise ValueError('no')", 'line 1: no'),
    (b"_base_ = 'nowhere.py'", 'nowhere.py'),
    (b'_base_ = 7', 'config'),
    (b"default_scope = 3", 'default_scope=3'),
])
def test_a_config_that_cannot_be_read(tmp_path, content, said):
    path = tmp_path / 'mine.py'
    path.write_bytes(content)
    with pytest.raises((ValueError, OSError), match=said) as caught:
        load_config(str(path))
    assert str(path) in str(caught.value) or 'nowhere.py' in said
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('name', ['x.txt', 'x', 'folder.py', 'nowhere.py'])
def test_what_is_no_config(tmp_path, name):
    (tmp_path / 'folder.py').mkdir()
    (tmp_path / 'x.txt').write_text('x = 1')
    (tmp_path / 'x').write_text('x = 1')
    with pytest.raises((FileNotFoundError, ValueError), match='config'):
        load_config(str(tmp_path / name))
