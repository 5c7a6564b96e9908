"""The grid of runs, with tools that only take notes."""
import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from mmrobust.analysis.ablation import parse_grid, run_ablation, run_name
from mmrobust.utils.results_file import seal

TRAIN = '''
import sys
from pathlib import Path
work_dir = Path(sys.argv[sys.argv.index('--work-dir') + 1])
if 'b.rho=0.3' in sys.argv and not (work_dir / 'second_try').exists():
    (work_dir / 'second_try').write_text('')
    sys.exit('no luck')
(work_dir / 'calls').open('a').write('train ' + ' '.join(sys.argv[1:]) + '\\n')
'''
TEST = '''
import json, sys
from pathlib import Path
from mmrobust.utils.results_file import seal
work_dir = Path(sys.argv[sys.argv.index('--work-dir') + 1])
(work_dir / 'calls').open('a').write('test ' + ' '.join(sys.argv[1:]) + '\\n')
options = dict(a.split('=') for a in sys.argv[sys.argv.index('--cfg-options') + 1:])
value = float(options['a.tau']) + float(options['b.rho'])
(work_dir / 'fog').mkdir()
(work_dir / 'fog' / 'results.json').write_text(json.dumps(seal(dict(
    format=2, benchmark='fog', model='m', metric='mIoU', identity={}, layout={},
    finished=0, expected=0, cells=[],
    summary=dict(P=value, mPC=value / 2, types=dict(fog=value))))))
'''


@pytest.fixture
def tools(tmp_path):
    (tmp_path / 'train.py').write_text(TRAIN)
    (tmp_path / 'test.py').write_text(TEST)
    return tmp_path


def test_grid():
    assert parse_grid(['a.tau=1,2', 'shape=[1,2],(3,4)']) == [
        {'a.tau': '1', 'shape': '[1,2]'}, {'a.tau': '1', 'shape': '(3,4)'},
        {'a.tau': '2', 'shape': '[1,2]'}, {'a.tau': '2', 'shape': '(3,4)'}]
    names = [run_name(settings) for settings in ({'a.tau': '1'}, {'b.tau': '1'})]
    assert all(name.startswith('tau=1-') for name in names) and len(set(names)) == 2
    for bad in ('tau', '=1,2', 'tau='):
        with pytest.raises(ValueError, match='is no part of a grid'):
            parse_grid([bad])
    with pytest.raises(ValueError, match='repeats a key or a value'):
        parse_grid(['tau=1,2', 'tau=3'])
    with pytest.raises(ValueError, match='repeats a key or a value'):
        parse_grid(['tau=1,1'])


def test_runs_resume_and_report(tools, tmp_path):
    grid = parse_grid(['a.tau=1,2', 'b.rho=0.1,0.3'])
    arguments = tools, 'config.py', grid, 'fog', tmp_path / 'out', ['c=5'], ['--severities', '3']
    with pytest.raises(ValueError, match='2 of 4 runs failed, see .*tau=1.rho=0.3.*ablation.log.*'
                       'The first one says: no luck$'):
        run_ablation(*arguments)
    done = tmp_path / 'out' / run_name(grid[0])
    calls = (done / 'calls').read_text().splitlines()
    assert calls == [
        f'train config.py --work-dir {done} --resume --cfg-options c=5 a.tau=1 b.rho=0.1',
        f'test config.py {done} --work-dir {done} --benchmark fog --severities 3 '
        '--cfg-options c=5 a.tau=1 b.rho=0.1']
    with (tmp_path / 'out' / 'ablation.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [row['mPC'] for row in rows] == ['0.55', '', '1.05', '']

    table = run_ablation(*arguments)
    assert (done / 'calls').read_text().splitlines() == calls  # not done again
    with (tmp_path / 'out' / 'ablation.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [(row['a.tau'], row['b.rho'], row['P']) for row in rows] == [
        ('1', '0.1', '1.1'), ('1', '0.3', '1.3'), ('2', '0.1', '2.1'), ('2', '0.3', '2.3')]
    assert table.splitlines()[-1].split() == ['2', '0.3', '2.30', '1.15']
    assert (tmp_path / 'out' / 'ablation.png').stat().st_size > 5000
    with pytest.raises(ValueError, match='holds runs with another config, benchmark or overrides'):
        run_ablation(*arguments[:3], 'acdc', *arguments[4:])


def test_a_part_of_a_benchmark(tools, tmp_path, monkeypatch):
    """Numbers of a part are called so, and it is finished once its table was written."""
    drawn = []
    monkeypatch.setattr('mmrobust.analysis.ablation.save_figure',
                        lambda figure, path: drawn.append(figure))
    grid = parse_grid(['a.tau=1', 'b.rho=0.1'])
    folder = tmp_path / 'out' / run_name(grid[0])
    (folder / 'fog').mkdir(parents=True)
    (folder / 'trained').write_text('')
    (folder / 'fog' / 'results.csv').write_text('')
    (folder / 'fog' / 'results.json').write_text(json.dumps(seal(dict(
        format=2, benchmark='fog', model='m', metric='mIoU', identity={}, layout={},
        finished=0, expected=2, cells=[],
        summary=dict(P=None, mPC=None, mPC_finished=7.)))))
    table = run_ablation(tools, 'config.py', grid, 'fog', tmp_path / 'out')
    assert 'mPC of a part' in table and '7.00' in table
    (folder / 'fog' / 'results.json').write_text(json.dumps(seal(dict(
        format=2, benchmark='fog', model='m', metric='mIoU', identity={}, layout={},
        finished=0, expected=2, cells=[],
        summary=dict(P=8., types=dict(random_patches=7.5, chosen_patches=None))))))
    table = run_ablation(tools, 'config.py', grid, 'fog', tmp_path / 'out')
    assert table.split()[2:4] == ['P', 'random_patches'] and table.split()[-1] == '7.50'
    assert not (folder / 'calls').exists()
    assert drawn[-1].get_suptitle() == 'fog, mIoU (%)'  # what P is a number of


SLOW = '''
import os, signal, sys, time
from pathlib import Path
work_dir = Path(sys.argv[sys.argv.index('--work-dir') + 1])

def stop(number, frame):
    (work_dir / 'saved').write_text(str(number))
    os._exit(int(os.environ['MMROBUST_STOP_STATUS']))

signal.signal(signal.SIGTERM, stop)
(work_dir / 'pid').write_text(str(os.getpid()))
time.sleep(60)
'''
RUN = '''
import sys
from mmrobust.analysis.ablation import parse_grid, run_ablation
from mmrobust.utils.cli import run
sys.exit(run(lambda: run_ablation(sys.argv[1], 'c.py', parse_grid(['a=1']), 'fog', sys.argv[2])))
'''


@pytest.mark.parametrize(('number', 'status'), [(signal.SIGTERM, 0), (signal.SIGKILL, -9)])
def test_its_training_ends_with_it(tools, tmp_path, repo, number, status):
    (tools / 'train.py').write_text(SLOW)
    process = subprocess.Popen([sys.executable, '-c', RUN, str(tools), str(tmp_path / 'out')],
                               cwd=repo, env={**os.environ, 'PYTHONPATH': str(repo)})
    folder = tmp_path / 'out' / run_name({'a': '1'})
    while not (folder / 'pid').exists() or not (folder / 'pid').read_text():
        assert process.poll() is None
        time.sleep(.05)
    process.send_signal(number)
    assert process.wait(60) == status
    deadline = time.monotonic() + 60
    while not (folder / 'saved').exists():
        assert time.monotonic() < deadline
        time.sleep(.05)
    assert not (folder / 'trained').exists()
