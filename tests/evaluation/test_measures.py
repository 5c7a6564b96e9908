"""Per-class results, calibration and failure detection against plain formulas and by hand."""
import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmpretrain.structures import DataSample
from mmseg.evaluation import IoUMetric
from mmseg.structures import SegDataSample

from mmrobust.evaluation.confidences import Confidences
from mmrobust.evaluation.metrics.measures import RobustnessMeasures, lacks_probabilities
from mmrobust.utils.results_classes import class_table, measure_sentences, vanished


def confidences(probabilities, labels):
    """Of rows of probabilities."""
    logits = torch.tensor(probabilities).T.log()
    labels = torch.tensor(labels)
    counts = Confidences()
    counts.add(logits, logits.argmax(0), labels, torch.ones_like(labels, dtype=torch.bool))
    return counts.measures()


def drawn(classes=5, number=20_000, scale=3., seed=0):
    """Logits, and labels that are right as often as the square of the confidence says."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(classes, number, generator=generator) * scale
    confidence, predicted = logits.softmax(0).max(0)
    other = torch.randint(0, classes, (number,), generator=generator)
    labels = predicted.where(torch.rand(number, generator=generator) < confidence ** 2, other)
    return logits, predicted, labels


def plain(logits, predicted, labels):
    """The definitions, in float64 with everything kept."""
    p = logits.double().softmax(0).numpy()
    predicted, labels = predicted.numpy(), labels.numpy()
    place = np.arange(len(labels))
    confidence, right = p[predicted, place], predicted == labels
    others = p.copy()
    others[predicted, place] = 0
    score = np.log(confidence) - np.log(others.sum(0))
    ece = 0.
    for low in np.arange(15) / 15:
        own = (confidence > low) & (confidence <= low + 1 / 15)
        if own.any():
            ece += own.sum() * abs(confidence[own].mean() - right[own].mean())
    order = np.argsort(score)
    adaptive = [abs(a.mean() - b.mean()) for a, b in zip(
        np.array_split(confidence[order], 15), np.array_split(right[order], 15), strict=True)]
    onehot = np.eye(len(p))[labels].T
    wrong_scores, right_scores = score[~right], score[right]
    below = np.searchsorted(np.sort(wrong_scores), right_scores)
    hits = ~right[order]
    precision = hits.cumsum() / np.arange(1, len(hits) + 1)
    kept = np.sort(right_scores)[::-1][int(np.ceil(.95 * len(right_scores))) - 1]
    return {'calibration/ECE': 100 * ece / len(right),
            'calibration/adaptive_ECE': 100 * np.mean(adaptive),
            'calibration/Brier': ((p - onehot) ** 2).sum(0).mean(),
            'calibration/NLL': -np.log(p[labels, place]).mean(),
            'failure_detection/AUROC': 100 * below.mean() / len(wrong_scores),
            'failure_detection/AUPR': 100 * precision[hits].mean(),
            'failure_detection/FPR95': 100 * (wrong_scores >= kept).mean()}


@pytest.mark.parametrize('scale', [1., 4., 12.])
def test_measures_are_those_of_the_definitions(scale):
    logits, predicted, labels = drawn(scale=scale)
    known = torch.rand(len(labels), generator=torch.Generator().manual_seed(1)) < .8
    counts = Confidences()
    for part in (slice(0, 7000), slice(7000, None)):
        counts.add(logits[:, part], predicted[part], labels[part], known[part])
    found = counts.measures()
    for name, expected in plain(logits[:, known], predicted[known], labels[known]).items():
        # histograms of log-odds keep what lies within 0.0024 of them together
        ranked = name.startswith('failure') or name.endswith('adaptive_ECE')
        assert found[name] == pytest.approx(expected, rel=1e-5, abs=.05 if ranked else 1e-4), name


def test_against_the_libraries():
    sklearn = pytest.importorskip('sklearn.metrics')
    torchmetrics = pytest.importorskip('torchmetrics.functional.classification')
    logits, predicted, labels = drawn()
    counts = Confidences()
    counts.add(logits, predicted, labels, labels >= 0)
    found, p = counts.measures(), logits.double().softmax(0)
    right, confidence = (predicted == labels).numpy(), p.amax(0).numpy()
    assert found['calibration/ECE'] == pytest.approx(100 * float(
        torchmetrics.multiclass_calibration_error(p.T, labels, len(p), n_bins=15)), abs=1e-3)
    assert found['failure_detection/AUROC'] == pytest.approx(
        100 * sklearn.roc_auc_score(right, confidence), abs=.02)
    assert found['failure_detection/AUPR'] == pytest.approx(
        100 * sklearn.average_precision_score(~right, -confidence), abs=.05)


def test_by_hand():
    found = confidences([[.9, .1], [.8, .2], [.3, .7], [.4, .6]], [0, 1, 1, 1])
    # confidences .9 right, .8 wrong, .7 right, .6 right: each alone in its bin
    assert found['calibration/ECE'] == pytest.approx(100 * (.1 + .8 + .3 + .4) / 4, abs=1e-4)
    assert found['calibration/Brier'] == pytest.approx(
        2 * (.1 ** 2 + .8 ** 2 + .3 ** 2 + .4 ** 2) / 4)
    assert found['calibration/NLL'] == pytest.approx(-np.log([.9, .2, .7, .6]).mean())
    assert found['failure_detection/AUROC'] == pytest.approx(100 / 3)
    assert found['failure_detection/AUPR'] == pytest.approx(100 / 3)  # it is the third from below
    assert found['failure_detection/FPR95'] == 100
    assert found['reliability/count'] == [0] * 8 + [1, 0, 1, 1, 0, 1, 0]
    nan = float('nan')
    np.testing.assert_equal(found['reliability/accuracy'][8:], [100, nan, 100, 0, nan, 100, nan])


def test_without_failures_and_without_anything():
    found = confidences([[.9, .1], [.2, .8]], [0, 1])
    assert np.isnan(found['failure_detection/AUROC']) and found['calibration/ECE'] > 0
    assert Confidences().measures() == {}
    counts = Confidences()
    counts.add(torch.randn(3, 4), torch.zeros(4).long(), torch.full((4,), 255),
               torch.zeros(4, dtype=torch.bool))
    assert counts.measures() == {}


def test_saturated_and_foreign_scores():
    # probabilities of exactly 1 and 0: the log-odds are infinite, the label's is impossible
    found = confidences([[1., 0.], [1., 0.], [.5, .5]], [0, 1, 0])
    assert found['calibration/ECE'] == pytest.approx(100 * (1 + .5) / 3)
    assert found['failure_detection/AUROC'] == pytest.approx(25)
    counts = Confidences()
    counts.add(torch.full((2, 3), float('nan')), torch.zeros(3).long(), torch.zeros(3).long(),
               torch.ones(3, dtype=torch.bool))
    assert np.isnan(counts.measures()['calibration/Brier'])


def segmentation_sample(seed=0, classes=4, channels=None, size=(9, 7)):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(channels or classes, *size, generator=generator)
    labels = torch.randint(0, classes - 1, (1, *size), generator=generator)  # the last is absent
    labels[:, 0] = 255
    sample = SegDataSample()
    if channels == 1:
        scores = scores.sigmoid()
        predicted = (scores > .3).to(scores)
    else:
        predicted = scores.argmax(0, keepdim=True)
    sample.set_data(dict(seg_logits=PixelData(data=scores), gt_sem_seg=PixelData(data=labels),
                         pred_sem_seg=PixelData(data=predicted)))
    return sample.to_dict()


def measured(samples, classes, **kwargs):
    metric = RobustnessMeasures(**kwargs)
    metric.dataset_meta = dict(classes=[f'c{i}' for i in range(classes)])
    for i in range(0, len(samples), 2):
        metric.process(None, samples[i:i + 2])
    returned = metric.evaluate(len(samples))
    assert not any(isinstance(value, list) for value in returned.values())
    return metric.measures


def test_classes_are_counted_as_mmsegmentation_does():
    samples = [segmentation_sample(seed) for seed in range(5)]
    found = measured(samples, 4)
    metric = IoUMetric(iou_metrics=['mIoU'])
    metric.dataset_meta = dict(classes=list('abcd'))
    metric.process(None, samples)
    areas = [sum(part) for part in zip(*metric.results, strict=True)]
    np.testing.assert_allclose(found['per_class/IoU'], (100 * areas[0] / areas[1]).tolist())
    assert np.isnan(found['per_class/accuracy'][3]) and found['per_class/IoU'][3] == 0
    mean = metric.compute_metrics(metric.results)['mIoU']
    assert np.mean(found['per_class/IoU']) == pytest.approx(mean, abs=.006)  # two decimals
    p = torch.cat([torch.as_tensor(s['seg_logits']['data']).flatten(1) for s in samples], 1)
    labels = torch.cat([s['gt_sem_seg']['data'].flatten() for s in samples])
    known = labels != 255
    expected = plain(p[:, known], p.argmax(0)[known], labels[known])
    assert found['calibration/ECE'] == pytest.approx(expected['calibration/ECE'], abs=1e-4)


def test_one_sigmoid_output():
    samples = [segmentation_sample(seed, classes=2, channels=1) for seed in range(3)]
    found = measured(samples, 2)
    one = torch.cat([s['seg_logits']['data'].flatten() for s in samples])
    labels = torch.cat([s['gt_sem_seg']['data'].flatten() for s in samples])
    p, known = torch.stack([1 - one, one]), labels != 255
    expected = plain(p.log()[:, known], (one > .3).long()[known], labels[known])
    assert found['calibration/ECE'] == pytest.approx(expected['calibration/ECE'], abs=1e-4)
    assert found['calibration/Brier'] == pytest.approx(expected['calibration/Brier'])


def test_classifiers_and_what_is_left_out():
    scores = torch.tensor([[.7, .2, .1], [.1, .8, .1], [.3, .3, .4]])
    samples = [DataSample().set_pred_score(score).set_gt_label(label).to_dict()
               for score, label in zip(scores, (0, 0, 2), strict=True)]
    found = measured(samples, 3)
    np.testing.assert_equal(found['per_class/accuracy'], [50, float('nan'), 100])
    assert 'per_class/IoU' not in found
    assert found['calibration/NLL'] == pytest.approx(-np.log([.7, .1, .4]).mean())
    several = DataSample().set_pred_score(scores[0]).set_gt_label([0, 1]).to_dict()
    assert measured([several, dict(pred_instances=None)], 3) == {}
    assert 'calibration/ECE' not in measured([segmentation_sample()], 4, confidences=False)


def test_samples_given_to_two_processes_count_once(monkeypatch):
    from mmrobust.evaluation.metrics import measures

    samples = [segmentation_sample(seed) for seed in range(3)]
    whole = measured(samples, 4)
    parts = []
    for rank, own in enumerate(([samples[0], samples[2]], [samples[1], samples[0]])):
        metric = RobustnessMeasures()
        metric.dataset_meta = dict(classes=list('abcd'))
        metric.process(None, own)
        monkeypatch.setattr(measures, 'get_rank', lambda rank=rank: rank)
        monkeypatch.setattr(measures, 'get_world_size', lambda: 2)
        monkeypatch.setattr(measures, 'all_gather_object', lambda part: parts.append(part) or parts)
        metric.evaluate(3)
    assert metric.per_image.shape == (3, 3, 4)
    np.testing.assert_array_equal(metric.per_image[2], RobustnessMeasures._counted(
        metric, samples[2:])[0])
    assert metric.measures.keys() == whole.keys()
    for name, value in whole.items():
        np.testing.assert_allclose(metric.measures[name], value, err_msg=name)


def test_a_benchmark_keeps_them(benchmark, tmp_path, segmenter):
    _, results = benchmark('fog', severities=[1, 5])
    for cell in results['cells']:
        known = [value for value in cell['measures']['per_class/IoU'] if value is not None]
        assert np.mean(known) == pytest.approx(cell['metrics']['mIoU'], abs=.006)
        assert 0 <= cell['measures']['calibration/ECE'] <= 100
    assert results['classes'][13] == 'car'
    table = class_table(results)
    assert table.conditions == ['clean', 'fog'] and 'car' in table.classes
    rows = (tmp_path / 'out/per_class.csv').read_text().splitlines()
    assert rows[0] == 'benchmark,model,name,severity,class,IoU,accuracy'
    assert len(rows) == 1 + 3 * 19 and rows[14].split(',')[4] == 'car'
    assert 'calibration/ECE' in (tmp_path / 'out/results.csv').read_text().splitlines()[0]
    assert any('ECE' in sentence for sentence in measure_sentences(results))
    _, without = benchmark('fog', severities=[1, 5], measures=False, out_dir='without')
    assert [cell['metrics'] for cell in without['cells']] == [
        cell['metrics'] for cell in results['cells']]
    assert not any(cell['measures'] for cell in without['cells'])
    assert not (tmp_path / 'without/per_class.csv').exists()
    cfg = Config.fromfile(segmenter)
    cfg.model.decode_head.loss_decode = dict(type='CrossEntropyLoss', use_sigmoid=True)
    _, sigmoid = benchmark('fog', cfg, severities=1, out_dir='sigmoid')
    assert set(sigmoid['cells'][0]['measures']) == {'per_class/IoU', 'per_class/accuracy'}


def test_classes_that_vanish():
    def cell(name, severity, *values):
        return dict(name=name, severity=severity, measures={'per_class/IoU': list(values)})

    results = dict(classes=['road', 'car', 'pole'], cells=[
        cell('clean', 0, 90., 50., 5.), cell('fog', 4, 80., .9, 0.), cell('fog', 5, 70., .1, None)])
    assert vanished(results) == [('car', 'fog', 4), ('car', 'fog', 5)]
    sentences = measure_sentences(results)
    assert sentences[0] == 'worst class: car, IoU 0.50 under fog (clean 50.00)'
    assert 'car (fog 4, fog 5)' in sentences[1]
    json.dumps(class_table(results)._asdict())


def test_heads_whose_scores_are_no_probabilities():
    from types import SimpleNamespace as Namespace

    def model(**head):
        return Namespace(decode_head=Namespace(**head))

    assert lacks_probabilities(model(loss_decode=Namespace(use_sigmoid=False))) is None
    sigmoid = Namespace(use_sigmoid=True)
    assert 'sigmoid' in lacks_probabilities(model(loss_decode=sigmoid, out_channels=4))
    assert lacks_probabilities(model(loss_decode=sigmoid, out_channels=1)) is None
    assert 'predicts no logits' in lacks_probabilities(model())
    assert lacks_probabilities(Namespace(head=None)) is None


def test_worst_types():
    def cell(name, severity, *values):
        return dict(name=name, severity=severity, measures={'per_class/IoU': list(values)})

    results = dict(classes=['road', 'car'], cells=[
        cell('clean', 0, 90., 50.), cell('fog', 1, 80., 30.), cell('snow', 1, 60., 44.)],
        summary=dict(headings={}, types=dict(fog=55., snow=52.)))
    assert ('worst type: snow, 52.00; mean over classes of the type that is worst for each: 45.00'
            in measure_sentences(results))
    results['summary']['types']['snow'] = None
    assert not any('worst type' in sentence for sentence in measure_sentences(results))
