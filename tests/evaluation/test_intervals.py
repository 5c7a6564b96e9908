"""Bootstrap by hand and against the binomial; subsets by name."""
import math

import numpy as np
import pytest
from mmengine.config import Config

from mmrobust.datasets.subset import NamedSubset
from mmrobust.evaluation.comparison import compare
from mmrobust.evaluation.intervals import (
    differences,
    image_file,
    interval,
    load_images,
    means,
    metric_of,
    resampled,
    write_images,
)


def areas(seed=0, images=6, classes=3):
    rng = np.random.default_rng(seed)
    hits = rng.integers(0, 20, (images, classes))
    return np.stack([hits, hits + rng.integers(0, 9, hits.shape),
                     hits + rng.integers(0, 9, hits.shape)], 1).astype(float)


def test_miou_of_resampled_images_by_hand():
    counts = areas()
    counts[:, :, 2] = 0
    counts[3, 2, 2] = 5  # a class that is labelled in one image only, and never found
    weights = np.array([[1] * 6, [2, 0, 1, 0, 3, 0]], float)
    for drawn, found in zip(weights, metric_of(counts, weights), strict=True):
        chosen = np.repeat(np.arange(6), drawn.astype(int))
        ious = []
        for k in range(3):
            hit, predicted, labelled = (sum(counts[i, part, k] for i in chosen)
                                        for part in range(3))
            if predicted + labelled - hit:
                ious.append(hit / (predicted + labelled - hit))
        assert found == pytest.approx(100 * np.mean(ious))
        assert len(ious) == (3 if 3 in chosen else 2)


def test_interval_of_an_accuracy_is_the_binomials():
    counts = np.stack([np.zeros(400, int), np.arange(400) % 4 == 0], 1).astype(int)  # 75 % right
    values, = resampled([{('clean', 0): counts}], draws=4000)
    drawn = values['clean', 0]
    assert drawn.std() == pytest.approx(100 * math.sqrt(.75 * .25 / 400), rel=.05)
    low, high = interval(drawn)
    assert (low, high) == pytest.approx((75 - 1.96 * 2.165, 75 + 1.96 * 2.165), abs=.4)
    assert (low, high) == interval(np.sort(drawn)[::-1])


def test_differences_are_paired(tmp_path):
    """Two models that fail on nearly the same images differ by less than either is uncertain."""
    rng = np.random.default_rng(0)
    hard = rng.random(300)
    models = []
    for name, skill in (('a', .60), ('b', .64), ('c', .60)):
        right = hard < skill if name != 'c' else rng.permutation(hard < skill)
        counts = np.stack([np.zeros(300, int), ~right], 1).astype(int)
        path = tmp_path / name / 'results.json'
        for cell in ('clean', 'fog'):
            write_images(image_file(path.parent, cell, 0 if cell == 'clean' else 2), counts)
        value = 100 * right.mean()
        models.append((path, dict(model=name, metric='top1', layout={'': dict(fog=[1, 2])},
                                  summary=dict(mPC=None), cells=[
            dict(name='clean', severity=0, metrics=dict(top1=value)),
            dict(name='fog', severity=2, metrics=dict(top1=value))])))
    rows = {(row['model'], row['name']): row for row in differences(models)}
    assert set(rows) == {(model, name) for model in 'bc' for name in ('P', 'fog', 'mPC of a part')}
    models[2][1]['layout'][''] = models[1][1]['layout'][''] = dict(fog=[2])
    assert {row['name'] for row in differences(models)} == {'P', 'fog', 'mPC'}
    models[2][1]['summary'] = models[1][1]['summary'] = dict(types={})
    assert {row['name'] for row in differences(models)} == {'P', 'fog'}
    better, other = rows['b', 'fog'], rows['c', 'fog']
    share = ((hard >= .6) & (hard < .64)).mean()
    assert better['difference'] == pytest.approx(100 * share) and better['real']
    assert better['high'] - better['low'] == pytest.approx(
        2 * 196 * math.sqrt(share * (1 - share) / 300), rel=.2)
    assert not other['real'] and other['high'] - other['low'] > 10
    # a file that makes up another value is none of this cell
    models[0][1]['cells'][0]['metrics']['top1'] += 1
    assert set(load_images(*models[0])) == {('fog', 2)}
    image_file(models[0][0].parent, 'fog', 2).write_bytes(b'PK damaged')
    assert load_images(*models[0]) == {}
    assert differences(models[:2]) == []


def test_means_need_everything_that_belongs_to_them():
    layout = {'weather': {'fog': [1, 2], 'snow': [1]}, 'noise': {'shot_noise': []}}
    values = {('clean', 0): 9., ('fog', 1): 4., ('fog', 2): 2., ('snow', 1): 6.}
    assert means(values, layout) == dict(P=9., fog=3., snow=6.)
    values['shot_noise', 0] = 0.
    assert means(values, layout)['mPC'] == 3.
    assert 'mPC' not in means(values, layout, None)


def test_a_benchmark_with_intervals(benchmark, tmp_path, capsys):
    _, results = benchmark('fog', severities=[1, 2])
    path = tmp_path / 'out/results.json'
    images = load_images(path, results)
    assert list(images) == [('clean', 0), ('fog', 1), ('fog', 2)]
    assert images['clean', 0].shape == (3, 3, 19)
    assert '95 % intervals by bootstrap over 3 images: P' in capsys.readouterr().out
    said = compare([path, path], tmp_path / 'compared', ['one', 'two'])
    assert 'P +0.00 [+0.00, +0.00] (no difference shown)' in said
    rows = (tmp_path / 'compared/differences.csv').read_text().splitlines()
    assert rows[0] == 'model,name,difference,low,high,real'
    assert [row.split(',')[1] for row in rows[1:]] == ['P', 'mPC of a part', 'fog']


def test_subset_is_the_same_wherever_the_data_lies(tmp_path):
    def dataset(names, root):
        class Data(list):
            metainfo = dict(classes=['a'])
            data_prefix = dict(img_path=root)

            def get_data_info(self, index):
                return dict(img_path=f'{root}/{self[index]}')

        return Data(names)

    names = [f'{i % 3}/{i}.png' for i in range(40)]
    chosen = NamedSubset(dataset(names, '/a'), 7)
    own = [chosen[i] for i in range(len(chosen))]
    assert len(own) == 7 and own == [name for name in names if name in own]
    copied = [name.replace('.png', '.jpg') for name in reversed(names)]
    other = NamedSubset(dataset(copied, '/somewhere/else'), 7)
    assert sorted(other[i].replace('.jpg', '.png') for i in range(7)) == sorted(own)
    assert [chosen.get_data_info(i)['img_path'] for i in range(7)] == [f'/a/{n}' for n in own]
    again = NamedSubset(dataset(names, '/a'), 7, seed=1)
    assert [again[i] for i in range(7)] != own
    assert {NamedSubset(dataset(names, '/a'), 12)[i] for i in range(12)} > set(own)
    with pytest.raises(ValueError, match='subset=41 of 40 samples of Data: ask for fewer'):
        NamedSubset(dataset(names, '/a'), 41)
    for size in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match=f'subset={size}: give a whole number'):
            NamedSubset(dataset(names, '/a'), size)
    listed = tmp_path / 'names.txt'
    listed.write_text('2/5.png\n0/3.JPEG\n\nother/folder/11.png\n7\n0/3.png\n')
    for root in ('/a', '/b'):
        chosen = NamedSubset(dataset(names, root), str(listed))
        assert [chosen[i] for i in range(len(chosen))] == ['0/3.png', '2/5.png', '1/7.png',
                                                           '2/11.png']
    twins = [*names, 'more/7.jpg']
    listed.write_text('1/7')
    assert len(NamedSubset(dataset(twins, '/a'), str(listed))) == 1
    for content, message in (('', 'names no sample'), ('9\n40.png', '40.png is the name of no sam'),
                             ('7.png', '7.png is the name of 2 samples of Data: give paths')):
        listed.write_text(content)
        with pytest.raises(ValueError, match=message):
            NamedSubset(dataset(twins, '/a'), str(listed))
    with pytest.raises(ValueError, match='subset=all: give a number of samples, or a text file'):
        NamedSubset(dataset(names, '/a'), 'all')


def test_benchmark_on_a_subset(benchmark, segmenter):
    from mmrobust.evaluation.results import ResultsMismatchError

    _, whole = benchmark('fog', severities=1)
    _, part = benchmark('fog', severities=1, subset=2, out_dir='part')
    assert part['identity']['data']['number of samples'] == 2
    assert part['cells'][1]['metrics'] != whole['cells'][1]['metrics']
    with pytest.raises(ResultsMismatchError, match='number of samples=2 instead of 3'):
        benchmark('fog', severities=1, subset=2)
    with pytest.raises(ResultsMismatchError, match='the data differ'):
        benchmark('fog', severities=1, subset=2, subset_seed=1, out_dir='part')
    with pytest.raises(ValueError, match='subset=0: give a whole number of samples, at least 1'):
        benchmark('fog', severities=1, subset=0, out_dir='none')
    with pytest.raises(ValueError, match='subset=9 of 3 samples of CityscapesDataset'):
        benchmark('fog', severities=1, subset=9, out_dir='none')
    cfg = Config.fromfile(segmenter)
    cfg.test_dataloader.dataset = dict(type='ConcatDataset', datasets=[cfg.test_dataloader.dataset])
    _, wrapped = benchmark('fog', cfg, severities=1, subset=2, out_dir='wrapped')
    assert [cell['metrics'] for cell in wrapped['cells']] == [
        cell['metrics'] for cell in part['cells']]
