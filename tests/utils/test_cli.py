"""How tools end: mistakes in one sentence, defects with their traceback."""
import concurrent.futures
import errno
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, Registry
from torch.utils.data import DataLoader, Dataset

from mmrobust.utils.cli import DEFECT, INTERRUPTED, MISTAKE, UNREAD, run
from mmrobust.utils.mistakes import InputError, reading


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['tool'])
    monkeypatch.delenv('MMROBUST_TRACEBACK', raising=False)
    monkeypatch.setattr(logging, 'raiseExceptions', logging.raiseExceptions)


def ending(capsys, main):
    """Exit status and what was said on standard error."""
    status = run(main)
    return status, capsys.readouterr().err


def logged(sentence):
    """The content of the log file that a sentence names."""
    path = Path(sentence.split('details in ')[1].split(')')[0])
    text = path.read_text()
    path.unlink()
    return text


def test_a_sentence_of_ours_is_shown_as_it_stands(capsys):
    def main():
        raise ValueError("there is no config 'x.py': see configs/ for ours")

    assert ending(capsys, main) == (MISTAKE, "there is no config 'x.py': see configs/ for ours\n")


@pytest.mark.parametrize('fail', [
    lambda: {}['x'], lambda: [][1], lambda: None.x, lambda: 1 / 0, lambda: int('x'),
    lambda: np.zeros(2).reshape(3), lambda: torch.zeros(2).reshape(3)])
def test_what_python_raises_outside_of_reading_is_a_defect(capsys, fail):
    status, said = ending(capsys, fail)
    assert status == DEFECT
    assert 'Traceback' in said and 'please report it' in said


@pytest.mark.parametrize('fail', [
    lambda: {}['x'], lambda: [][1], lambda: None.x, lambda: 1 / 0, lambda: int('x'),
    lambda: np.zeros(2).reshape(3), lambda: torch.zeros(2).reshape(3), lambda: sys.exit('no')])
def test_inside_of_reading_it_is_a_mistake_and_its_traceback_in_a_file(capsys, fail):
    def main():
        with reading("the config 'x.py'"):
            fail()

    status, said = ending(capsys, main)
    assert status == MISTAKE
    assert said.startswith("the config 'x.py': ") and said.count('\n') == 1
    assert 'Traceback' not in said and 'Traceback' in logged(said)


class Unprintable(ValueError):
    def __str__(self):
        raise RuntimeError


@pytest.mark.parametrize('error', [Unprintable, BaseException])
def test_exceptions_that_are_odd_themselves(capsys, error):
    def main():
        with reading('it'):
            raise error

    status, said = ending(capsys, main)
    assert status == MISTAKE and said.startswith(f'it: {error.__name__}: correct it')


def test_what_ends_a_run_keeps_its_kind_and_still_ends_in_a_sentence(capsys):
    def main():
        with reading('it', running=True):
            run_code(BaseException('odd'))

    def run_code(error):
        scope = dict(error=error)
        exec(compile('raise error', '/elsewhere/user.py', 'exec'), scope)

    status, said = ending(capsys, main)
    assert status == MISTAKE and 'odd' in said and said.count('\n') == 1


def test_a_message_without_end_is_cut(capsys):
    def main():
        with reading('it'):
            torch.zeros(1).to('x' * 10 ** 6)

    status, said = ending(capsys, main)
    assert status == MISTAKE and said.startswith('it: ') and len(said) < 1000


def test_an_interruption_is_no_mistake_of_what_is_read(capsys):
    def main():
        with reading('it'):
            raise KeyboardInterrupt

    assert ending(capsys, main) == (INTERRUPTED, 'interrupted\n')


def test_debug_shows_the_traceback_instead(capsys, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['tool', '--debug', 'a'])

    def main():
        assert sys.argv == ['tool', 'a']
        with reading('it'):
            {}['x']

    status, said = ending(capsys, main)
    assert status == MISTAKE and 'Traceback' in said
    assert said.splitlines()[-1] == "it: there is no 'x': correct it"


def test_a_defect_while_the_config_works_stays_one():
    from mmrobust.utils import files

    with pytest.raises(TypeError), reading('the config', running=True):
        files.write_table('x', None)  # a line of ours, subscripting None
    with pytest.raises(InputError), reading('the config', running=True):
        torch.zeros(2) @ torch.zeros(3)  # no line of ours
    with pytest.raises(InputError), reading('the config'):
        files.write_table('x', None)


@MODELS.register_module()
class OddModel:
    def __init__(self, depth, width=1):
        self.size = depth * width + 1


@pytest.mark.parametrize('config,said', [
    (dict(type='OddModl', depth=1), "there is no model 'OddModl', did you mean OddModel"),
    (dict(type='OddModel', depth=1, widht=2), "OddModel takes no 'widht', did you mean width"),
    (dict(type='OddModel'), "OddModel needs 'depth'"),
    (dict(type='OddModel', depth='x'), 'OddModel: TypeError: can only concatenate str'),
    (dict(depth=1), "a type is missing in {'depth': 1}"),
])
def test_what_a_config_builds(config, said):
    with pytest.raises(InputError, match=said), reading('the config'):
        MODELS.build(config)


def test_registries_that_raise_again_with_more_text():
    def build(cfg, registry):
        try:
            raise ValueError('tau=-1 cannot be negative: choose another')
        except ValueError as error:
            raise ValueError(f'class `X` in a/b.py: {error}')  # noqa: B904  as it does

    with pytest.raises(InputError, match='^the config: tau=-1 cannot be negative'), \
            reading('the config'):
        Registry('odd', build_func=build).build(dict(type='X'))


class Broken(Dataset):
    def __init__(self, stated):
        self.stated = stated

    def __len__(self):
        return 2

    def __getitem__(self, index):
        if self.stated:
            raise ValueError('a.png cannot be decoded: replace the file.')
        return {}['gt_seg_map']


@pytest.mark.parametrize('stated,said', [
    (True, 'the data: a.png cannot be decoded: replace the file: correct it'),
    (False, "the data: there is no 'gt_seg_map': correct it")])
def test_two_workers_that_fail_leave_one_sentence(capfd, stated, said):
    def main():
        with reading('the data'):
            list(DataLoader(Broken(stated), num_workers=2, multiprocessing_context='fork'))

    assert run(main) == MISTAKE
    shown = capfd.readouterr().err
    assert shown.startswith(said) and 'Traceback' not in shown
    assert 'Traceback' in logged(shown)


def _fail(stated):
    if stated:
        raise ValueError('b.png is cut short: replace it')
    return {}['x']


def test_a_pool_of_processes(capfd):
    import multiprocessing

    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context('fork')) as pool:
        assert run(lambda: pool.submit(_fail, True).result()) == MISTAKE
        assert capfd.readouterr().err.startswith('b.png is cut short: replace it')


@pytest.mark.parametrize('error,said', [
    (FileNotFoundError(errno.ENOENT, 'No such file or directory', 'a/b'), "'a/b': No such file"),
    (OSError(errno.ENOSPC, 'No space left on device'), 'No space left on device: make room'),
    (IsADirectoryError(errno.EISDIR, 'Is a directory', b'stra\xdfe'), r"'stra\udcdfe': Is a dir"),
    (FileNotFoundError('x.csv cannot be written: free some space'), 'x.csv cannot be written'),
    (MemoryError(), 'out of memory'),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), 'out of memory'),
    (RuntimeError('DataLoader worker (pid 12) is killed by signal: Segmentation fault. '),
     'a process that loads data is killed by signal: Segmentation fault'),
])
def test_what_the_machine_lacks(capsys, error, said):
    def main():
        raise error

    status, shown = ending(capsys, main)
    assert status == MISTAKE and said in shown and 'Traceback' not in shown


def test_an_option_given_twice(capsys):
    def benchmark(name, **options):
        pass

    options = dict(name='x')
    status, said = ending(capsys, lambda: benchmark('fog', **options))
    assert status == MISTAKE and said.startswith("'name' is no KEY=VALUE option")


def test_an_interruption_is_quiet(capsys):
    def main():
        raise KeyboardInterrupt

    assert ending(capsys, main) == (INTERRUPTED, 'interrupted\n')


def _program(repo, code, **kwargs):
    return subprocess.Popen(
        [sys.executable, '-c', f'import sys\nfrom mmrobust.utils.cli import run\n{code}'],
        cwd=repo, env={**os.environ, 'PYTHONPATH': str(repo)}, stderr=subprocess.PIPE, **kwargs)


def test_a_reader_that_goes_away(repo):
    process = _program(repo, 'sys.exit(run(lambda: [print("x" * 999) for _ in range(999)]))',
                       stdout=subprocess.PIPE)
    process.stdout.read(9)
    process.stdout.close()
    assert process.stderr.read() == b''
    assert process.wait() == UNREAD


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='the system has no full device')
def test_a_full_device(repo):
    with open('/dev/full', 'w') as full:
        process = _program(repo, 'sys.exit(run(lambda: print("x")))', stdout=full)
    said = process.stderr.read()
    assert process.wait() == MISTAKE
    assert said.startswith(b'No space left on device: make room')


@pytest.mark.parametrize('tool', ['train.py', 'print_config.py', 'analysis/report.py'])
def test_every_tool_tells_of_debug(repo, tool, monkeypatch, capsys):
    import runpy

    monkeypatch.setattr(sys, 'argv', [tool, '--help'])
    with pytest.raises(SystemExit):
        runpy.run_path(str(repo / 'tools' / tool), run_name='__main__')
    assert '--debug' in capsys.readouterr().out


@pytest.mark.parametrize('arguments', [['x', '--out', ''], [''], ['x', '--names', 'a', '']])
def test_empty_arguments_are_wrong_usage(monkeypatch, capsys, arguments):
    from mmrobust.cli import run_tool

    monkeypatch.setattr(sys, 'argv', ['report.py', *arguments])
    with pytest.raises(SystemExit) as ended:
        run_tool('report')
    assert ended.value.code == 2
    assert 'is given, but empty' in capsys.readouterr().err


def test_what_is_raised_from_none_is_the_whole_sentence():
    """Unlike what MMEngine's registries raise again, it may begin with the file."""
    with pytest.raises(InputError, match='^the data: a.png: too small'), reading('the data'):
        try:
            raise ValueError('too small')
        except ValueError as error:
            raise ValueError(f'a.png: {error}') from None
