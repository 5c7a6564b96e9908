"""A job that is warned of its time limit saves, and is requeued."""
import os
import signal
import subprocess
import time

import pytest

SRUN = '''#!/usr/bin/env bash
echo "$@" >> "$LOG"
trap 'echo saved >> "$LOG"; exit '"$STATUS" USR1
for _ in {1..300}; do sleep .1; done
'''


@pytest.mark.parametrize(('status', 'restarts'), [(0, 0), (0, 1), (1, 0)])
def test_requeue(repo, tmp_path, status, restarts):
    for name, text in (('srun', SRUN), ('scontrol', '#!/bin/sh\necho "scontrol $@" >> "$LOG"\n')):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    log = tmp_path / 'log'
    process = subprocess.Popen(
        ['bash', str(repo / 'tools/slurm_train.sh'), 'gpu', 'job', 'config.py'],
        env={**os.environ, 'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'LOG': str(log),
             'STATUS': str(status), 'SLURM_JOB_ID': '42', 'SLURM_RESTART_COUNT': str(restarts)})
    while not log.exists() or not log.read_text():
        time.sleep(.05)
    time.sleep(.3)  # until it hears signals
    process.send_signal(signal.SIGUSR1)
    assert process.wait(60) == status
    text = log.read_text()
    assert 'saved' in text and ('scontrol requeue 42' in text) == (status == 0)
    assert ('--resume' in text) == (restarts > 0)
