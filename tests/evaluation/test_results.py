import csv
import json
import os

import cv2
import numpy as np
import pytest
import torch

from mmrobust.evaluation import get_protocol
from mmrobust.evaluation.comparison import compare
from mmrobust.evaluation.fingerprint import describe, digest, state_digest
from mmrobust.evaluation.plots import plot_comparison, plot_results
from mmrobust.evaluation.results import (
    Results,
    ResultsMismatchError,
    main_metric,
    plain_metrics,
    write_csv,
)
from mmrobust.evaluation.tables import results_table
from mmrobust.utils.files import write_atomically
from mmrobust.utils.results_file import load_results, seal


def filled(path, name='cityscapes-c', model='base', shift=0.0, skip=(), **identity):
    protocol = get_protocol(name)
    results = Results(protocol, path, model, identity or dict(weights='w'))
    for cell in reversed(protocol.cells):
        if cell.key not in skip:
            value = 80.0 - 5 * cell.severity + shift
            results.add(cell, {'accuracy/top1': value} if protocol.task == 'classification' else
                        dict(aAcc=90.0, mIoU=value))
    results.write()
    return results


def test_round_trip_is_independent_of_the_order(tmp_path):
    path = tmp_path / 'a/results.json'
    filled(path)
    first = path.read_bytes()
    protocol = get_protocol('cityscapes-c')
    results = Results(protocol, path, 'base', dict(weights='w'))
    results.resume()
    assert set(results.cells) == {cell.key for cell in protocol.cells}
    results.write()
    assert path.read_bytes() == first
    assert [p.name for p in path.parent.iterdir()] == ['results.json']


def test_refuses_what_does_not_belong(tmp_path):
    path = tmp_path / 'results.json'
    filled(path, weights=dict(digest='#1'), data={'number of samples': 4, 'names': '#1'})
    other = dict(weights=dict(digest='#2'), data={'number of samples': 5, 'names': '#2'})
    with pytest.raises(ResultsMismatchError, match='do not belong to this run: the weights differ: '
                       'others; the data differ: number of samples=5 instead of 4. Choose'):
        Results(get_protocol('cityscapes-c'), path, 'x', other).resume()
    with pytest.raises(ResultsMismatchError, match='the benchmark is fog instead of citys'):
        Results(get_protocol('fog'), path, 'x', other).resume()


def test_refuses_cells_of_other_pixels(tmp_path):
    results = Results(get_protocol('fog'), tmp_path / 'a.json', 'x', dict(weights='w'))
    for cell in results.protocol.cells:
        results.add(cell, dict(mIoU=1.), f'#{cell.severity}' if cell.severity else None)
    results.write()
    results.resume()
    results.check_sources({(c.name, c.severity): f'#{c.severity}' if c.severity else None
                           for c in results.protocol.cells})
    with pytest.raises(ResultsMismatchError, match='fog, severity 2 was made of other pixels'):
        results.check_sources({('fog', 2): '#3'})


def edit(content, **changes):
    return json.dumps(seal({**content, **changes}))


def test_what_is_no_results_file_is_said_in_a_sentence(tmp_path):
    path = tmp_path / 'results.json'
    content = filled(path, 'fog').as_dict()
    whole = path.read_text()
    cell = content['cells'][1]
    for text, message in (
            (whole[:300], 'is damaged .* cut short or edited: run the benchmark again'),
            ('', 'is empty'), ('[' * 100000, 'is damaged'),
            (whole.replace('75.0', 'NaN', 1), 'NaN instead of a number'),
            (whole.replace('75.0', '"75"', 1), "mIoU of fog is '75' instead of a number"),
            (whole.replace('75.0', '76.0', 1), 'was changed after it was written'),
            ('[1]', 'is no results file of a benchmark'), ('{"a": 1}', 'is no results file of a b'),
            ('text', 'is no results file: name the results.json'),
            (edit(content, format=1), r'another version .*format 1 instead of 2'),
            (edit(content, cells={}), r'cells is \{\}'),
            (edit(content, cells=[cell, cell]), '6 finished cells, 1 of them'),
            (edit(content, cells=[dict(cell, severity='1')]), "cell 0 is .*'severity': '1'"),
            (edit(content, cells=[dict(cell, metrics=3)]), 'the metrics of fog are 3'),
            (edit(content, summary=dict(types=dict(fog='x'))), "fog of the summary is 'x'"),
            (edit(content, summary={}), "the summary lacks 'types'"),
            (edit(content, layout=dict(a=3)), "layout of 'a' is 3"),
            (json.dumps({k: v for k, v in content.items() if k != 'metric'}),
             "it lacks 'metric'")):
        path.write_text(text)
        with pytest.raises(ValueError, match=f'^{path} .*{message}') as error:
            load_results(path)
        assert '\n' not in str(error.value)
    path.write_text(whole.replace('"base"', '"a better name"'))
    assert load_results(path)['model'] == 'a better name'
    torch.save(dict(a=1), path)
    with pytest.raises(ValueError, match='is no results file: name'):
        load_results(path)
    with pytest.raises(ValueError, match='is a folder: name the results.json'):
        load_results(tmp_path)
    with pytest.raises(FileNotFoundError, match='no results file .*gone.json'):
        load_results(tmp_path / 'gone.json')


def test_a_pipe_is_no_results_file(tmp_path):
    os.mkfifo(tmp_path / 'results.json')
    with pytest.raises(ValueError, match='results.json is no file'):
        load_results(tmp_path / 'results.json')


def test_table_says_what_is_missing(tmp_path):
    complete = results_table(filled(tmp_path / 'a.json').as_dict())
    assert 'cityscapes-c, mIoU: base' in complete
    assert 'P 80.00, mPC 66.25, rPC 82.8 %' in complete and 'INCOMPLETE' not in complete
    lines = {line.split()[0 if line[0] != ' ' else 0]: line for line in complete.splitlines()
             if line.strip()}
    assert lines['fog'].split() == ['fog', '75.00', '70.00', '65.00', '60.00', '55.00', '65.00']
    assert lines['shot_noise'].split() == ['shot_noise', '75.00', '70.00', '65.00', '70.00']
    partial = results_table(filled(tmp_path / 'b.json', skip=[('fog', 5), ('clean', 0)]).as_dict())
    assert 'INCOMPLETE: 71 of 73 cells, mean of the finished ones' in partial
    assert 'mPC 6' not in partial
    fog = next(line for line in partial.splitlines() if ' fog ' in line)
    assert fog.split() == ['fog', '75.00', '70.00', '65.00', '60.00', '-', '-']


def test_corruption_errors_have_a_column(tmp_path):
    table = results_table(filled(tmp_path / 'a.json', 'imagenet-c').as_dict())
    assert table.splitlines()[1].split()[-2:] == ['mean', 'CE'] and 'mCE ' in table


def test_csv_and_plot(tmp_path):
    content = filled(tmp_path / 'a.json', skip=[('fog', 2)]).as_dict()
    write_csv(content, tmp_path / 'a.csv')
    rows = (tmp_path / 'a.csv').read_text().splitlines()
    assert len(rows) == 1 + 72 and rows[1] == 'cityscapes-c,base,,clean,0,90.0,80.0'
    assert rows[2] == 'cityscapes-c,base,blur,motion_blur,1,90.0,75.0'
    plot_results(content, tmp_path / 'a.png')
    picture = cv2.imread(str(tmp_path / 'a.png'))
    assert picture.shape[1] > picture.shape[0] > 300 and picture.std() > 10


def test_bars_say_whose_they_are(tmp_path, monkeypatch):
    """One model in the title, with what is said of it in short lines; several in a legend."""
    drawn = []
    monkeypatch.setattr('mmrobust.evaluation.plots.save_figure',
                        lambda figure, path: drawn.append(figure))
    own = filled(tmp_path / 'a.json', 'pgd', 'plain').as_dict()
    own['summary']['notes'] = ['a note that is longer than bars of three attacks are wide'] * 2
    plot_results(own, tmp_path / 'a.png')
    first, *others = drawn[0].axes[0].get_title().splitlines()
    assert first == 'plain on pgd' and 'a note' in ''.join(others)
    drawn[0].canvas.draw()
    title = drawn[0].axes[0].title.get_window_extent()
    assert title.x0 >= 0 and title.x1 <= drawn[0].bbox.width
    plot_comparison([own, {**own, 'model': 'AFAT'}], tmp_path / 'b.png')
    texts = [text.get_text() for text in drawn[1].legends[0].get_texts()]
    assert texts == ['plain', 'AFAT'] and drawn[1].axes[0].get_title() == 'pgd'
    assert drawn[1].axes[0].get_ylabel() == 'mIoU (%)'


def test_values_of_zero_have_an_axis(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr('mmrobust.evaluation.plots.save_figure',
                        lambda figure, path: drawn.append(figure))
    own = filled(tmp_path / 'a.json', 'pgd').as_dict()
    own['summary'] |= dict(P=0., types=dict.fromkeys(own['summary']['types'], 0.))
    plot_comparison([own, {**own, 'model': 'AFAT'}], tmp_path / 'a.png')
    assert [axis.get_ylim()[1] for axis in drawn[0].axes] == [1, 1]
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ['0'] * 8


def test_names_below_bars_can_be_read(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr('mmrobust.evaluation.plots.save_figure',
                        lambda figure, path: drawn.append(figure))
    own = filled(tmp_path / 'a.json', 'pgd').as_dict()
    types = {'ImageNet-C mCE': 50., 'imagenet-r: accuracy/top1': 40.}
    own['summary'] |= dict(label='', types=types)
    plot_comparison([own], tmp_path / 'a.png')
    axis, = drawn[0].axes
    assert [text.get_text() for text in axis.get_xticklabels()] == [
        'clean', 'ImageNet-C mCE \u2193', 'imagenet-r: top-1\naccuracy (%)']


def test_comparison(tmp_path):
    paths = [tmp_path / name / 'results.json' for name in ('one', 'two', 'three')]
    filled(paths[0])
    filled(paths[1], shift=2.5)
    filled(paths[2], model='other', shift=-1, skip=[('fog', 3)])
    table = compare(paths, tmp_path / 'out')
    assert table.splitlines()[1].split() == [
        'base', '(one)', 'base', '(two)', 'diff.', 'other', '(three)', 'diff.']
    rows = {line.split()[-6]: line.split()[-5:] for line in table.splitlines()
            if len(line.split()) >= 6}
    assert rows['snow'] == ['65.00', '67.50', '+2.50', '64.00', '-1.00']
    assert rows['fog'] == ['65.00', '67.50', '+2.50', '-', '-']
    assert rows['mPC'] == ['66.25', '68.75', '+2.50', '-', '-']
    assert rows['%'] == ['82.81', '83.33', '+0.52', '-', '-']  # rPC
    assert 'other (three): P 79.00; INCOMPLETE: 72 of 73 cells' in table
    assert cv2.imread(str(tmp_path / 'out/comparison.png')) is not None
    rows = (tmp_path / 'out/comparison.csv').read_text().splitlines()
    assert rows[0] == 'name,base (one),base (two),other (three)'
    assert 'fog,65.0,67.5,' in rows
    assert compare(paths[:2], names=['A', 'B']).splitlines()[1].split() == ['A', 'B', 'diff.']
    with pytest.raises(ValueError, match='1 names for 2 results files'):
        compare(paths[:2], names=['A'])
    filled(tmp_path / 'fog.json', 'fog')
    with pytest.raises(ValueError, match='compare results of one benchmark only'):
        compare([paths[0], tmp_path / 'fog.json'])


def test_parts_of_a_benchmark_are_compared_by_the_cells_that_all_have(tmp_path):
    paths = [tmp_path / name / 'results.json' for name in ('one', 'two')]
    keys = [cell.key for cell in get_protocol('imagenet-c').cells]
    for path, shift, kept in ((paths[0], 0, (0, 1, 3)), (paths[1], 2.5, (0, 1, 2, 3))):
        filled(path, 'imagenet-c', path.parent.name, shift, skip=[
            key for key in keys if key[1] not in kept or key == ('fog', 1) or key[0] == 'snow'])
    table = compare(paths, tmp_path)
    assert table.splitlines()[0] == (
        'imagenet-c, 14 of 15 types, severities 1 3 or 3 only, accuracy/top1')
    rows = {line.split()[-4]: line.split()[-3:] for line in table.splitlines()
            if line.split()[-1:] != ['cells'] and len(line.split()) > 3}
    assert rows['frost'] == ['70.00', '72.50', '+2.50']  # severities 1 and 3, not 2
    assert rows['fog'] == ['65.00', '67.50', '+2.50'] and rows['snow'] == ['-', '-', '-']
    mean = (13 * 70 + 65) / 14
    assert rows['part'] == [f'{mean:.2f}', f'{mean + 2.5:.2f}', '+2.50']
    assert 'mPC' not in rows and 'mCE' not in rows
    with (tmp_path / 'per_type.csv').open() as file:
        first = next(csv.DictReader(file))
    assert first['values'] == 'accuracy/top1' and float(first['frost']) == 70


def test_models_under_other_conditions_are_marked(tmp_path):
    settings = dict(protocol=dict(channel_order='bgr'), weights=1)
    paths = [tmp_path / name / 'results.json' for name in 'abcd']
    filled(paths[0], 'fog', 'A', **settings)
    filled(paths[1], 'fog', 'B', shift=1, **{**settings, 'weights': 2})
    filled(paths[2], 'fog', 'C', **{**settings, 'protocol': dict(channel_order='rgb')})
    other = filled(paths[3], 'fog', 'D', **settings)
    other.sources['fog', 3] = '#other'
    other.write()
    table = compare(paths, tmp_path / 'out')
    rows = {line.split()[0]: line.split()[1:] for line in table.splitlines() if line.strip()}
    assert rows['mPC'] == ['65.00', '66.00', '+1.00', '65.00', '-', '65.00', '-']
    assert ('NOT COMPARABLE: C was measured under other conditions than A: the protocol differs: '
            'channel_order=rgb instead of bgr.') in table
    assert 'D was measured under other conditions than A: the images of fog were not' in table
    assert 'than A: ' in table and 'COMPARABLE: B' not in table
    assert 'not comparable,,,the protocol' in (tmp_path / 'out/comparison.csv').read_text()


def test_metrics_become_plain_numbers():
    metrics = dict(a=np.float32(59.31), b=torch.tensor(0.5), c=np.nan, d='text', e=np.int64(3),
                   f=np.array([1.0, np.inf]))
    assert plain_metrics(metrics) == dict(a=59.31, b=0.5, c=None, e=3, f=[1.0, None])
    assert json.dumps(plain_metrics(metrics), allow_nan=False)


def test_main_metric():
    assert main_metric(dict(aAcc=1, mIoU=2, mAcc=3)) == 'mIoU'
    assert main_metric({'accuracy/top5': 1, 'accuracy/top1': 2}) == 'accuracy/top1'
    assert main_metric({'coco/bbox_mAP_50': 1, 'coco/bbox_mAP': 2}) == 'coco/bbox_mAP'
    assert main_metric(dict(loss=1)) == 'loss'
    assert main_metric(dict(aAcc=1, mIoU=2), 'aAcc') == 'aAcc'
    with pytest.raises(ValueError, match="no metric 'x': choose from aAcc"):
        main_metric(dict(aAcc=1), 'x')
    with pytest.raises(ValueError, match='the evaluator reports no metric'):
        main_metric({})


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('old')

    def fail(temporary):
        with open(temporary, 'w') as file:
            file.write('ne')
        raise OSError('disk full')

    with pytest.raises(OSError, match='disk full'):
        write_atomically(path, fail)
    assert path.read_text() == 'old' and list(tmp_path.iterdir()) == [path]


def test_digests():
    assert digest(dict(a=1, b=[dict(c=2)])) == digest(dict(b=[{'c': 2}], a=1))
    assert digest(dict(a=1)) != digest(dict(a=2))
    assert describe(dict(a=1, init_cfg=dict(checkpoint='x'))) == dict(a=1)
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    before = state_digest(model)
    assert state_digest(torch.nn.DataParallel(model)) == before
    model[1].running_mean += 1
    assert (changed := state_digest(model)) != before
    assert state_digest(model.double()) != changed
    model.register_buffer('mean', torch.ones(3), persistent=False)
    unsaved = state_digest(model)
    model.mean += 1
    assert state_digest(model) != unsaved


def test_a_metric_that_is_not_there_costs_no_cell(tmp_path):
    results = Results(get_protocol('fog'), tmp_path / 'results.json', 'x', dict(weights='w'),
                      metric='foo')
    results.add(results.protocol.cells[0], dict(mIoU=50.0))
    results.write()
    with pytest.raises(ValueError, match="no metric 'foo': choose from mIoU"):
        results.check_metric()
    assert load_results(tmp_path / 'results.json')['cells'][0]['metrics'] == dict(mIoU=50.0)


@pytest.mark.parametrize('name', ['imagenet-c', 'cityscapes-c'])
def test_types_of_several_models_as_in_the_papers(tmp_path, name):
    paths = [tmp_path / model / 'results.json' for model in ('base', 'TAP')]
    for path, shift in zip(paths, (0, 4.), strict=True):
        filled(path, name, path.parent.name, shift)
    table = compare(paths, tmp_path)
    with (tmp_path / 'per_type.csv').open() as file:
        rows = {row['model']: row for row in csv.DictReader(file)}
    with (tmp_path / 'comparison.csv').open() as file:
        compared = {row['name']: row for row in csv.DictReader(file)}
    types = [cell for cell in get_protocol(name).layout().values() for cell in cell]
    assert list(rows['TAP'])[-len(types):] == types  # in the paper's order
    if name == 'imagenet-c':
        assert float(rows['TAP']['fog']) == pytest.approx((20 + 15 - 4) / 0.819324, rel=1e-5)
        assert float(compared['CE fog']['TAP']) == pytest.approx(float(rows['TAP']['fog']),
                                                                rel=1e-5)
        assert 'mCE_without_noise' in rows['base']
        lines = table.splitlines()
        first = next(line for line in lines if line.startswith('CE'))
        assert first.split() == ['CE', 'gaussian_noise', '39.48', '34.97', '-4.51']
        assert any(line.split()[0] == 'mCE_without_noise' for line in lines if line.strip())
    else:
        assert float(rows['TAP']['fog']) == 69 and float(rows['base']['shot_noise']) == 70
        assert float(rows['TAP']['mPC']) == 70.25
