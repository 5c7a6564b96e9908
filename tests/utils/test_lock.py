"""One process at a time works in a folder."""
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from mmrobust.utils import lock as module
from mmrobust.utils.lock import NAME, locked

HOLDER = """
import os, sys, time
from mmrobust.utils.lock import locked
with locked(sys.argv[1]):
    if os.fork() == 0:  # as a worker of a data loader does, it lives on for a while
        time.sleep(30)
        os._exit(0)
    print('held', flush=True)
    time.sleep(60)
"""


def hold(folder, repo):
    process = subprocess.Popen([sys.executable, '-c', HOLDER, str(folder)], cwd=repo,
                               stdout=subprocess.PIPE, text=True, start_new_session=True,
                               env={**os.environ, 'PYTHONPATH': str(repo)})
    assert process.stdout.readline() == 'held\n'
    return process


def test_another_process(tmp_path, repo):
    holder = hold(tmp_path, repo)
    try:
        with pytest.raises(BlockingIOError, match=rf'is in use by process {holder.pid} on .* since '
                                                  r'.*: wait for it, or choose another folder'):
            with locked(tmp_path):
                pass
        assert json.loads((tmp_path / NAME).read_text())['process'] == holder.pid
        holder.kill()
        holder.wait()
        time.sleep(.1)
        with locked(tmp_path):  # a killed process leaves nothing behind, nor do its children
            assert json.loads((tmp_path / NAME).read_text())['process'] == os.getpid()
        assert not (tmp_path / NAME).exists()
    finally:
        os.killpg(holder.pid, signal.SIGKILL)


def test_once_after_another(tmp_path):
    for _ in range(2):
        with locked(tmp_path / 'new'):
            with pytest.raises(BlockingIOError, match='by this process'):
                with locked(tmp_path / 'new' / '..' / 'new'):
                    pass
    assert os.listdir(tmp_path / 'new') == []


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def unsupported(*args):
        raise OSError(module.errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(module.fcntl, 'lockf', unsupported)
    other = subprocess.Popen(['sleep', '30'])
    try:
        (tmp_path / NAME).write_text(json.dumps(dict(
            host=module.socket.gethostname(), process=other.pid, since='noon', command='x')))
        with pytest.raises(BlockingIOError, match=f'process {other.pid} on'):
            with locked(tmp_path):
                pass
    finally:
        other.kill()
        other.wait()
    with pytest.warns(UserWarning, match='has no locks: make sure yourself'), locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match="file' cannot be written"), locked(tmp_path / 'file'):
        pass
