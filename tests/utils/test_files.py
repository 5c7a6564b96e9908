"""Files are either complete or not there."""
import os
import re
import stat
import subprocess
import sys
import time

import pytest
import torch

from mmrobust.checkpoints import save_checkpoint
from mmrobust.utils import files
from mmrobust.utils.files import (
    is_temporary,
    remove_abandoned,
    write_atomically,
    write_bytes_atomically,
    write_text_atomically,
)


def test_a_planted_link_is_not_followed(tmp_path, monkeypatch):
    victim = tmp_path / 'victim'
    victim.write_text('precious')
    monkeypatch.setattr(files.secrets, 'token_hex', lambda _: 'foreseen')
    (tmp_path / f'{files.PREFIX}foreseen.txt').symlink_to(victim)
    with pytest.raises(OSError, match=r"a\.txt' cannot be written \(File exists\)"):
        write_text_atomically(tmp_path / 'a.txt', 'x')
    assert victim.read_text() == 'precious'


def test_names_of_temporary_files_cannot_be_foreseen(tmp_path):
    names = []
    for _ in range(2):
        write_atomically(tmp_path / 'a.npz', lambda path: names.append(os.path.basename(path)))
    assert len(set(names)) == 2 and all(name.endswith('.npz') for name in names)
    assert all(is_temporary(name) for name in names) and not is_temporary('a.npz')


def test_a_link_at_the_target_is_replaced_not_followed(tmp_path):
    (tmp_path / 'other').write_text('precious')
    (tmp_path / 'a').symlink_to('other')
    write_text_atomically(tmp_path / 'a', 'x')
    assert (tmp_path / 'other').read_text() == 'precious'
    assert (tmp_path / 'a').read_text() == 'x' and not (tmp_path / 'a').is_symlink()


def test_mode_follows_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        write_text_atomically(tmp_path / 'a', 'x')
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / 'a').stat().st_mode) == 0o640


@pytest.mark.parametrize('name', ['x' * 250 + '.png', 'ß' * 120 + '.png', 'a.' + 'b' * 250,
                                  'new\nline .txt', os.fsdecode(b'stra\xdfe.jpg')])
def test_unusual_names(tmp_path, name):
    write_bytes_atomically(tmp_path / name, b'x')
    assert os.listdir(tmp_path) == [name]


def test_content_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    steps = []
    for function in ('fsync', 'replace'):
        original = getattr(os, function)
        monkeypatch.setattr(files.os, function, lambda *args, name=function, call=original: (
            steps.append(name), call(*args)))
    write_text_atomically(tmp_path / 'a', 'x')
    assert steps == ['fsync', 'replace', 'fsync']


@pytest.mark.parametrize(('target', 'reason'), [
    ('folder', 'Is a directory'), ('file/a', 'File exists|Not a directory'),
    ('y' * 300, 'File name too long')])
def test_what_cannot_be_written_is_named(tmp_path, target, reason):
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'file').touch()
    with pytest.raises(OSError, match=rf"{re.escape(target)}' cannot be written \(({reason})\)"):
        write_text_atomically(tmp_path / target, 'x')
    assert sorted(os.listdir(tmp_path)) == ['file', 'folder']


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs resource limits')
@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_a_full_disk_is_said_and_leaves_the_old_checkpoint(tmp_path, suffix):
    import resource

    path = tmp_path / f'a{suffix}'
    save_checkpoint(dict(state_dict=dict(w=torch.ones(2))), path)
    old, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(Exception) as error:
            save_checkpoint(dict(state_dict=dict(w=torch.ones(9999))), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert isinstance(error.value, OSError) and f"a{suffix}' cannot be" in str(error.value)
    assert os.listdir(tmp_path) == [path.name] and path.read_bytes() == old


def test_errors_of_other_files_keep_their_name(tmp_path):
    with pytest.raises(FileNotFoundError, match='missing'):
        write_atomically(tmp_path / 'a', lambda _: open(tmp_path / 'missing'))


def test_what_a_killed_process_leaves_is_hidden_and_removed_later(tmp_path):
    script = ('import os, sys\nfrom mmrobust.utils.files import write_atomically\n'
              'write_atomically(sys.argv[1], lambda path: os.kill(os.getpid(), 9))')
    subprocess.run([sys.executable, '-c', script, str(tmp_path / 'a.png')])
    name, = os.listdir(tmp_path)
    assert name.startswith('.') and is_temporary(name)
    assert remove_abandoned(tmp_path) == 0  # somebody may be writing it
    old = time.time() - 2 * files.ABANDONED
    os.utime(tmp_path / name, (old, old))
    (tmp_path / 'kept').touch()
    os.utime(tmp_path / 'kept', (old, old))
    assert remove_abandoned(tmp_path) == 1 and os.listdir(tmp_path) == ['kept']
    assert remove_abandoned(tmp_path / 'nowhere') == 0
