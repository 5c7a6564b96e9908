"""Draws of random masks: a distribution of each kind, and never a mean over both."""
import csv
import json
from statistics import fmean, stdev

import cv2
import numpy as np
import pytest

from mmrobust.evaluation import get_protocol
from mmrobust.evaluation.comparison import compare
from mmrobust.evaluation.plots import BESIDE, figure_of_draws, plot_results
from mmrobust.evaluation.protocols import Cell, Protocol
from mmrobust.evaluation.results import Results
from mmrobust.evaluation.tables import headline, results_table

METRIC = 'accuracy/top1'
CLEAN_VALUE, CHOSEN = 90., 40.


def random_values(masks=20):
    return [70 + (7 * i % masks) / 10 for i in range(masks)]


def results_of(path, model='small', masks=20, skip=(), shift=0.):
    protocol = get_protocol('patch-corruption', masks=masks, chosen_by='model')
    results = Results(protocol, path, model, dict(weights=model))
    values = {('clean', 0): CLEAN_VALUE, ('chosen_patches', 0): CHOSEN,
              **{('random_patches', i + 1): v for i, v in enumerate(random_values(masks))}}
    for cell in protocol.cells:
        if cell.key not in skip:
            results.add(cell, {METRIC: values[cell.key] + shift})
    results.write()
    return results.as_dict()


def test_spread_of_each_kind(tmp_path):
    content = results_of(tmp_path / 'results.json')
    stored = json.loads((tmp_path / 'results.json').read_text())['summary']
    values = random_values()
    own = stored['draws']['random_patches']
    assert own['finished'] == own['expected'] == 20
    assert own['mean'] == pytest.approx(fmean(values)) and own['std'] == pytest.approx(
        stdev(values))
    assert [own['min'], own['max']] == [70.0, 71.9]
    assert own['median'] == pytest.approx(70.95) and own['q25'] == pytest.approx(70.475)
    assert stored['draws']['chosen_patches']['mean'] == CHOSEN
    assert stored['draws']['chosen_patches']['std'] is None
    assert 'mPC' not in stored and 'headings' not in stored
    said = headline(content)
    assert said == ('P 90.00, random_patches 70.95 (mean of 20 draws, standard deviation 0.59, '
                    '70.00 to 71.90), chosen_patches 40.00')
    lines = results_table(content).splitlines()
    assert lines[1].split() == ['draws', 'mean', 'std', 'min', 'q05', 'q25', 'median', 'q75',
                                'q95', 'max']
    row = next(line.split() for line in lines if line.split()[:1] == ['random_patches'])
    assert row[1:5] == ['20', '70.95', '0.59', '70.00']


def test_incomplete_draws_have_no_statistics(tmp_path):
    content = results_of(tmp_path / 'results.json', skip=[('random_patches', 7)])
    own = content['summary']['draws']['random_patches']
    assert own['finished'] == 19 and own['mean'] is None and own['median'] is None
    said = headline(content)
    assert 'INCOMPLETE: 21 of 22 cells' in said and 'random_patches' not in said
    assert 'chosen_patches 40.00' in said and 'INCOMPLETE' in results_table(content)


def test_figure_shows_all_that_was_measured(tmp_path):
    models = [results_of(tmp_path / f'{name}.json', name, masks, shift=shift)
              for name, masks, shift in (('plain', 100, 0.), ('AFAT', 100, 2.))]
    plot_results(models[0], tmp_path / 'one.png')
    assert cv2.imread(str(tmp_path / 'one.png')).std() > 10
    figure = figure_of_draws(models)
    whole, boxes = figure.axes
    assert whole.get_ylim()[0] < CHOSEN and whole.get_ylim()[1] > CLEAN_VALUE + 2
    stars = [line for line in whole.lines if line.get_marker() == '*']
    diamonds = [line for line in whole.lines if line.get_marker() == 'D']
    assert [line.get_ydata()[0] for line in stars] == [90, 92]
    assert [line.get_ydata()[0] for line in diamonds] == [40, 42]
    points = [line for line in boxes.lines if len(line.get_ydata()) == 100]
    assert sorted(points[0].get_ydata()) == pytest.approx(sorted(random_values(100)))
    assert boxes.get_ylim()[0] > 69 and boxes.get_ylim()[1] < 83  # limits follow the data
    assert not [line for line in figure.axes[0].lines if len(line.get_ydata()) > 20]


def test_models_of_which_only_one_chooses_patches(tmp_path):
    """Boxes that fill the figure are drawn once."""
    plain = get_protocol('patch-corruption', masks=3)
    results = Results(plain, tmp_path / 'results.json', 'plain', {})
    for cell, value in zip(plain.cells, (80., 70., 50., 60.), strict=True):
        results.add(cell, {METRIC: value})
    axis, = figure_of_draws([results.as_dict(), results_of(tmp_path / 'b.json', 'AFAT')]).axes
    assert [line.get_xdata()[0] for line in axis.lines if line.get_marker() == 'D'
            ] == [1 + BESIDE]  # a star at the same height stays visible
    assert [len(line.get_ydata()) for line in axis.lines if line.get_marker() == 'o'] == [3, 20]


def test_several_models_in_one_table(tmp_path):
    for name in ('plain', 'AFAT'):
        results_of(tmp_path / name / 'results.json', name, shift=float(name == 'AFAT'))
    table = compare([tmp_path / name / 'results.json' for name in ('plain', 'AFAT')],
                    tmp_path / 'out')
    assert 'AFAT: P 91.00, random_patches 71.95' in table
    with (tmp_path / 'out/comparison.csv').open() as file:
        rows = {(row['model'], row['name']): row for row in csv.DictReader(file)}
    assert float(rows['AFAT', 'random_patches']['median']) == pytest.approx(71.95)
    assert float(rows['plain', 'clean']['mean']) == CLEAN_VALUE
    assert rows['AFAT', 'chosen_patches']['std'] == ''
    assert (tmp_path / 'out/comparison.png').exists()


def test_severities_set_the_limits_of_a_plot(tmp_path, monkeypatch):
    """Whatever the severities are called; a type without any is shown beside the others."""
    drawn = []
    monkeypatch.setattr('mmrobust.evaluation.plots.save_figure',
                        lambda figure, path: drawn.append(figure))
    protocol = Protocol('own', (Cell('clean'), Cell('rain', 2), Cell('rain', 8), Cell('night')),
                        {'': ('rain', 'night')})
    results = Results(protocol, tmp_path / 'results.json', 'small', {})
    for cell, value in zip(protocol.cells, (80., 70., 30., 20.), strict=True):
        results.add(cell, dict(mIoU=value))
    plot_results(results.as_dict(), tmp_path / 'own.png')
    axis, = drawn[0].axes
    assert axis.get_xlim()[0] < 2 < 8 < axis.get_xlim()[1] < 9
    assert [text.get_text() for text in axis.get_legend().get_texts()] == [
        'clean', 'rain', 'night']
    assert np.allclose(axis.lines[-1].get_ydata(), 20)
