"""A few of the fuzz's cases; all of them by ``python tests/fuzz/run.py``."""
import subprocess
import sys

import pytest


def test_a_sample_ends_in_sentences(repo):
    pytest.importorskip('mmseg')
    pytest.importorskip('mmpretrain')
    done = subprocess.run(
        [sys.executable, 'tests/fuzz/run.py', '--quick', '--sample', '40', '--verbose'],
        cwd=repo, text=True, capture_output=True, timeout=900, errors='replace')
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert '0 faults' in done.stdout
