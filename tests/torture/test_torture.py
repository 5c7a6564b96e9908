"""Some trials of the campaign; `make torture` runs all of it."""
import re
import subprocess
import sys
from pathlib import Path


def test_ten_kills():
    """Of one process and of two, within writes, of a benchmark and of corrupted copies."""
    kinds = ('train by iteration, SIGKILL', 'train by epoch, SIGKILL within a write',
             'train, SIGTERM then SIGKILL', 'train, a worker killed', 'train, full disk',
             'train, read-only', '2 processes, SIGKILL of one',
             'benchmark, SIGKILL within a write', 'corrupted copies, SIGKILL within a write',
             'train, SIGKILL within a write')
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name('campaign.py')), '--trials', '1',
         '--kinds', *kinds], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert re.search(r'\| all +\| +10 \|', done.stdout), done.stdout
