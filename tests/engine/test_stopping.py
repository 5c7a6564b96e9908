"""Asked to stop, a run saves once and says how it goes on."""
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest
from groups import PATIENCE, REPO, end_marked, environment, family
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from tiny import assert_same_end, final_state, tiny_config

from mmrobust.apis import train
from mmrobust.utils.processes import STOP_SIGNALS, Stopped

TORTURE = Path(__file__).resolve().parents[1] / 'torture'


@HOOKS.register_module(force=True)
class SignalHook(Hook):
    """Sends this process a signal at an iteration of training or a batch of validation."""

    def __init__(self, number, train=None, val=None):
        self.number, self.train, self.val = number, train, val

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.train:
            os.kill(os.getpid(), self.number)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == self.val and batch_idx == 1:
            os.kill(os.getpid(), self.number)


def stop_and_resume(folder, number, hooks=(), **options):
    when = {key: options.pop(key) for key in ('train', 'val') if key in options}
    handlers = {n: signal.getsignal(n) for n in STOP_SIGNALS}
    with pytest.raises(Stopped, match='the same command with --resume continues'):
        train(tiny_config(folder, hooks=[*hooks, dict(type='SignalHook', number=number, **when)],
                          **options))
    assert {n: signal.getsignal(n) for n in handlers} == handlers
    stopped = final_state(folder)[0]
    train(tiny_config(folder, hooks=hooks, resume=True, **options))
    return stopped


@pytest.fixture
def without_nohup():
    """The test may run below ``nohup``, whose children do not hear SIGHUP."""
    previous = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, previous)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_signals(tmp_path, number, without_nohup):
    assert stop_and_resume(tmp_path / 'stopped', number, train=6) == 6
    train(tiny_config(tmp_path / 'straight'))
    assert_same_end(tmp_path / 'stopped', tmp_path / 'straight')


@pytest.mark.parametrize('options', [
    dict(train=7, by_epoch=True), dict(train=10, by_epoch=True), dict(val=10),
    dict(val=10, by_epoch=True), dict(val=10, hooks=[dict(type='EMAHook', momentum=.1)]),
    dict(train=7, accumulate=3), dict(train=8)],
    ids=['within an epoch', 'end of an epoch', 'validation', 'validation by epoch',
         'validation of an average', 'within an accumulation', 'just saved'])
def test_moments(tmp_path, options):
    expected = options.get('train') or options['val']
    assert stop_and_resume(tmp_path / 'stopped', signal.SIGTERM, **options) == expected
    straight = {key: value for key, value in options.items() if key not in ('train', 'val')}
    train(tiny_config(tmp_path / 'straight', **straight))
    assert_same_end(tmp_path / 'stopped', tmp_path / 'straight')
    # what was saved for the interruption went with the next one
    assert sorted(p.name for p in (tmp_path / 'stopped').glob('*.pth')) == \
        sorted(p.name for p in (tmp_path / 'straight').glob('*.pth'))


def test_nohup(tmp_path, without_nohup):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    hook = dict(type='SignalHook', number=signal.SIGHUP, train=6)
    train(tiny_config(tmp_path, hooks=[hook]))
    assert final_state(tmp_path)[0] == 15
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_outside_the_main_thread(tmp_path):
    failure = []

    def work():
        try:
            train(tiny_config(tmp_path, workers=1))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failure and final_state(tmp_path)[0] == 15


@pytest.fixture
def launch(tmp_path):
    """Starts the tiny training as a command; whatever it leaves behind ends with the test."""
    mark = uuid.uuid4().hex

    def start(*options, processes=1, **env):
        command = [str(TORTURE / 'train_tiny.py'), str(tmp_path), *options]
        if processes > 1:
            command = ['-m', 'mmrobust.utils.torchrun', '--standalone',
                       f'--nproc-per-node={processes}', *command, '--launcher', 'pytorch']
        return subprocess.Popen(
            [sys.executable, *command], cwd=REPO, start_new_session=True, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(mark, **env))

    yield start
    end_marked(mark)


def wait_for(process, text):
    seen = ''
    for line in process.stdout:
        seen += line
        if re.search(text, line):
            return seen
    raise AssertionError(seen)


@pytest.mark.parametrize('status', [0, 75])
def test_the_whole_group_is_asked(tmp_path, launch, status):
    """As scancel and a terminal do: workers get the signal too, and end without a word."""
    process = launch('--length', '100000', '--workers', '2', '--pause', '.01', '--shown',
                     MMROBUST_STOP_STATUS=str(status))
    seen = wait_for(process, r'Iter\(train\)')
    os.killpg(process.pid, signal.SIGTERM)
    seen += process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == status, seen
    assert len(re.findall('Stopped on request after iteration', seen)) == 1
    assert 'Traceback' not in seen and 'Error' not in seen
    assert final_state(tmp_path)[0] > 0


@pytest.mark.parametrize(('who', 'number', 'status'), [
    ('a process', signal.SIGUSR1, 0), ('the launcher', signal.SIGINT, 128 + signal.SIGINT),
    ('the launcher', signal.SIGUSR1, 128 + signal.SIGUSR1)],
    ids=['a process', 'the launcher', 'the launcher, by Slurm'])
def test_one_of_them_is_asked(tmp_path, launch, who, number, status):
    """The two processes save once, at the same iteration."""
    process = launch('--length', '100000', '--pause', '.01', '--shown', processes=2)
    seen = wait_for(process, r'Iter\(train\)')
    os.kill([*family(process.pid)][-1] if who == 'a process' else process.pid, number)
    seen += process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == status, seen
    assert len(re.findall('Stopped on request after iteration', seen)) == 1
    assert 'Traceback' not in seen
    assert final_state(tmp_path)[0] > 0


def test_processes_end_with_their_launcher(tmp_path, launch):
    process = launch('--length', '100000', '--pause', '.01', '--shown', processes=2)
    wait_for(process, r'Iter\(train\)')
    children = [*family(process.pid)][1:]
    process.kill()
    process.wait()
    deadline = time.monotonic() + PATIENCE
    while any(Path(f'/proc/{child}').exists() for child in children):
        assert time.monotonic() < deadline
        time.sleep(.1)
    assert final_state(tmp_path)[0] > 0
