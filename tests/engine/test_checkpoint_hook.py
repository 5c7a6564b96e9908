"""Checkpoints are never lost, whatever happens while they are written."""
import os
from pathlib import Path

import pytest
import torch
from tiny import Crash, assert_same_end, final_state, tiny_config

from mmrobust.apis import train
from mmrobust.checkpoints import find_checkpoint, latest_checkpoint, load_foreign
from mmrobust.engine import checkpoint_hook
from mmrobust.utils import files


def names(folder):
    return sorted(path.name for path in Path(folder).glob('*.pth'))


def test_options_of_mmengine(tmp_path):
    runner = train(tiny_config(tmp_path / 'work', checkpoint=dict(
        out_dir=str(tmp_path / 'out'), filename_tmpl='step_{}.pth', save_begin=8,
        published_keys=['meta', 'state_dict'])))
    out = tmp_path / 'out' / 'work'
    best = runner.message_hub.get_info('best_ckpt')
    assert Path(best).parent == out and Path(best).is_file()
    published = [name for name in names(out) if '-' in name]
    assert len(published) == 2
    assert set(load_foreign(out / published[0])) == {'meta', 'state_dict'}
    assert set(names(out)) - set(published) == {'step_15.pth', Path(best).name}
    assert (tmp_path / 'work' / 'last_checkpoint').read_text() == str(out / 'step_15.pth')
    assert latest_checkpoint(tmp_path / 'work').path == str(out / 'step_15.pth')


def die_at(monkeypatch, call):
    """Ends the process' work instead of the ``call``-th renaming of a finished file."""
    count = iter(range(1000))
    replace = os.replace

    def dying(source, target):
        if next(count) == call:
            raise Crash
        replace(source, target)

    monkeypatch.setattr(files.os, 'replace', dying)


@pytest.mark.parametrize('call', range(1, 9))
def test_a_kill_at_any_rename(tmp_path, monkeypatch, call):
    """Checkpoint and pointer alternate, best checkpoints lie between."""
    with monkeypatch.context() as patch:
        die_at(patch, call)
        try:
            train(tiny_config(tmp_path / 'cut'))
        except Crash:
            pass
    found = latest_checkpoint(tmp_path / 'cut')
    assert found is not None and not found.skipped
    train(tiny_config(tmp_path / 'cut', resume=True))
    train(tiny_config(tmp_path / 'straight'))
    assert_same_end(tmp_path / 'cut', tmp_path / 'straight')
    assert names(tmp_path / 'cut') == names(tmp_path / 'straight')
    assert Path((tmp_path / 'cut/last_checkpoint').read_text()).exists()


def test_nothing_is_written_twice_or_in_place(tmp_path, monkeypatch):
    written, replace = [], os.replace
    monkeypatch.setattr(files.os, 'replace',
                        lambda source, target: (written.append(str(target)),
                                                replace(source, target)))
    train(tiny_config(tmp_path))
    saved = [path for path in written if path.endswith('.pth')]
    assert saved and len(set(saved)) == len(saved)
    assert {Path(p).name for p in saved} >= {'iter_4.pth', 'iter_8.pth', 'iter_12.pth',
                                              'iter_15.pth'}


def test_a_full_disk_keeps_what_was_saved(tmp_path, monkeypatch):
    write, count = files.write_bytes_atomically, iter(range(100))

    def full(path, content):
        if 'best' not in str(path) and next(count) == 1:
            raise OSError(28, 'No space left on device', str(path))
        write(path, content)

    monkeypatch.setattr(checkpoint_hook, 'write_bytes_atomically', full)
    with pytest.raises(OSError, match=r'No space left.*iter_8\.pth.*was saved before is as it was '
                                      r'\(iteration 4\), --resume goes on'):
        train(tiny_config(tmp_path))
    assert final_state(tmp_path)[0] == 4


def test_no_space_for_one_checkpoint(tmp_path, monkeypatch):
    usage = type('Usage', (), dict(free=1000))
    monkeypatch.setattr(checkpoint_hook.shutil, 'disk_usage', lambda folder: usage)
    with pytest.raises(OSError, match='has 0.0 MB left, and one checkpoint needs about 0.0 MB'):
        train(tiny_config(tmp_path))
    assert names(tmp_path) == []


@pytest.mark.parametrize('pointer', [None, '', '\0\0\0', 'nowhere/iter_99.pth', b'\xff\xfe'])
def test_last_checkpoint_that_says_nothing(tmp_path, pointer):
    train(tiny_config(tmp_path, length=4))
    if pointer is None:
        (tmp_path / 'last_checkpoint').unlink()
    else:
        (tmp_path / 'last_checkpoint').write_bytes(
            pointer if isinstance(pointer, bytes) else pointer.encode())
    assert Path(latest_checkpoint(tmp_path).path).name == 'iter_4.pth'
    assert Path(find_checkpoint(str(tmp_path))).name == 'iter_4.pth'


def several(folder):
    """Iterations 4, 8, 12 and 15."""
    cfg = tiny_config(folder)
    cfg.default_hooks.checkpoint.max_keep_ckpts = -1
    train(cfg)
    return folder


@pytest.mark.parametrize('damage', ['cut', 'empty', 'flipped', 'names'])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, capsys, damage):
    folder = several(tmp_path / 'run')
    path = folder / 'iter_15.pth'
    content = bytearray(path.read_bytes())
    if damage == 'flipped':
        middle = slice(len(content) // 2, len(content) // 2 + 400)
        content[middle] = bytes(byte ^ 255 for byte in content[middle])
    if damage == 'names':  # of the members of the archive, in its directory
        content = content.replace(b'archive/', b'\x9erchive/').replace(b'iter_15/', b'\x9eter_15/')
    path.write_bytes({'cut': content[:-200], 'empty': b''}.get(damage, content))
    found = latest_checkpoint(folder)
    assert Path(found.path).name == 'iter_12.pth' and 'iter_15.pth' in found.skipped[0]
    train(tiny_config(folder, resume=True))
    assert 'iter_15.pth' in capsys.readouterr().out
    train(tiny_config(tmp_path / 'straight'))
    assert_same_end(folder, tmp_path / 'straight')


def test_a_newer_checkpoint_than_the_named_one(tmp_path, capsys):
    folder = several(tmp_path / 'run')
    (folder / 'last_checkpoint').write_text(str(folder / 'iter_8.pth'))
    train(tiny_config(folder, length=20, resume=True))
    said = capsys.readouterr().out
    assert "iter_15.pth', because it is newer than" in said and 'iter_8.pth' in said


def test_a_folder_without_checkpoints(tmp_path):
    cfg = tiny_config(tmp_path / 'work', resume=True)
    cfg.load_from = str(tmp_path)
    with pytest.raises(FileNotFoundError, match='--resume: there is no checkpoint in the folder'):
        train(cfg)


def test_all_checkpoints_damaged(tmp_path):
    train(tiny_config(tmp_path, length=4))
    (tmp_path / 'iter_4.pth').write_bytes(b'x')
    with pytest.raises(ValueError, match='no checkpoint in .* can be read.*iter_4.pth'):
        train(tiny_config(tmp_path, resume=True))


def test_a_copied_work_dir_uses_its_own_file(tmp_path):
    train(tiny_config(tmp_path / 'old', length=4))
    (tmp_path / 'old').rename(tmp_path / 'new')
    train(tiny_config(tmp_path / 'old', length=4, seed=6))
    assert latest_checkpoint(tmp_path / 'new').path == str(tmp_path / 'new' / 'iter_4.pth')


def test_other_files_are_not_taken(tmp_path):
    train(tiny_config(tmp_path, length=4))
    (tmp_path / 'last_checkpoint').unlink()
    torch.save(dict(state_dict={}), tmp_path / 'resnet50.pth')
    assert Path(latest_checkpoint(tmp_path).path).name == 'iter_4.pth'


def test_a_work_dir_in_use(tmp_path):
    from mmrobust.utils.lock import locked

    with locked(tmp_path), pytest.raises(OSError, match='is in use by this process'):
        train(tiny_config(tmp_path))
    assert not (tmp_path / '.in_use').exists()
    train(tiny_config(tmp_path, length=1))


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match="file/work' cannot be written"):
        train(tiny_config(tmp_path / 'file' / 'work'))


def test_the_hook_in_a_plain_config(tmp_path):
    """Named in a config, it works in MMEngine's own runner and loop too."""
    from mmengine.runner import Runner

    cfg = tiny_config(tmp_path, by_epoch=True)
    cfg.default_hooks.checkpoint.type = 'SafeCheckpointHook'
    Runner.from_cfg(cfg).train()
    assert final_state(tmp_path)[0] == 15
