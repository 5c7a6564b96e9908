"""Several processes that fail leave one sentence."""
import os
import signal
import subprocess
import sys

import pytest

PROGRAM = '''
import os, sys
from mmrobust.utils.cli import run

def main():
    raise ValueError("there is no config 'x.py': see configs/ for ours")

sys.exit(run(main))
'''


@pytest.mark.parametrize('code,status', [(PROGRAM, 1), ('import os; os.abort()', 134)])
def test_one_sentence_of_all_processes(repo, tmp_path, code, status):
    program = tmp_path / 'program.py'
    program.write_text(code)
    done = subprocess.run(
        [sys.executable, '-m', 'mmrobust.utils.torchrun', '--standalone', '--nproc_per_node=2',
         str(program)], cwd=repo, text=True, capture_output=True,
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(repo)})
    assert done.returncode == status, done.stderr
    assert 'Traceback' not in done.stderr and 'ChildFailedError' not in done.stderr
    assert done.stderr.count('there is no config') == (status == 1)
    assert done.stderr.count('was ended by SIGABRT') == (status == 134)


@pytest.mark.parametrize('ended', [True, False])
def test_a_launcher_that_has_ended(repo, ended):
    """Killed while its processes still started, it could not take them along."""
    launcher = subprocess.Popen(['true'])
    launcher.wait()
    done = subprocess.run(
        [sys.executable, '-c', 'from mmrobust.utils.processes import end_with_launcher as end; '
         'end(); print("went on")'], cwd=repo, text=True, capture_output=True,
        env={**os.environ, 'PYTHONPATH': str(repo), 'TORCHELASTIC_RUN_ID': 'none',
             'MMROBUST_LAUNCHER': str(launcher.pid if ended else os.getpid())})
    assert done.returncode == (-signal.SIGTERM if ended else 0), done.stderr
    assert done.stdout == ('' if ended else 'went on\n')
