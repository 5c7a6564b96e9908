"""Corruption error, flip rate and accuracy on subsets, against numbers worked out by hand."""
import json
import math

import pytest
import torch

from mmrobust.datasets.imagenet_classes import CLASS_SETS
from mmrobust.evaluation.metrics.corruption_error import ALEXNET_ERROR, corruption_error
from mmrobust.evaluation.metrics.flip_rate import (
    FlipProbability,
    flip_probability,
    load_baseline,
)
from mmrobust.evaluation.metrics.subset_accuracy import SubsetAccuracy


def test_corruption_error():
    # (40 + 50 + 60 + 70 + 80) / 5 = 60 percent, AlexNet has 81.9324
    assert corruption_error('fog', [40, 50, 60, 70, 80]) == pytest.approx(60 / 0.819324)
    assert corruption_error('fog', [81.9324] * 5) == pytest.approx(100)


def test_alexnet_errors(shared):
    recipes = json.loads((shared / 'reference' / 'recipes.json').read_text())
    assert ALEXNET_ERROR == recipes['EVAL']['alexnet_ce']


def test_corruption_error_is_never_partial():
    with pytest.raises(ValueError, match="AlexNet has no published error on 'spatter'"):
        corruption_error('spatter', [1] * 5)
    with pytest.raises(ValueError, match='fog needs the errors at all 5 severities, got 3'):
        corruption_error('fog', [1, 2, 3])


def test_flip_probability():
    predictions = [1, 1, 2, 2, 1]
    assert flip_probability(predictions) == pytest.approx(50)  # changes: 0 1 0 1
    assert flip_probability(predictions, noise=True) == pytest.approx(50)  # not 1: 0 1 1 0
    assert flip_probability([1, 2, 2, 2, 2]) == pytest.approx(25)
    assert flip_probability([1, 2, 2, 2, 2], noise=True) == pytest.approx(100)
    # stride 2: the chains 1 2 1 and 1 2 change at 2 + 1 of 2 + 1 places
    assert flip_probability(predictions, stride=2) == pytest.approx(100)
    with pytest.raises(ValueError, match='needs more than 2 frames, got 2'):
        flip_probability([1, 1], stride=2)


def test_baseline(tmp_path):
    path = tmp_path / 'alexnet.json'
    path.write_text(json.dumps(dict(snow=12, tilt=16, scale=30)))
    assert load_baseline(path, ['snow', 'tilt']) == dict(snow=12, tilt=16)
    path.write_text(json.dumps(dict(cells=[
        dict(name='snow', severity=0, metrics={'flip/probability': 12.5})])))
    assert load_baseline(path, ['snow']) == dict(snow=12.5)


def test_baseline_errors(tmp_path):
    path = tmp_path / 'alexnet.json'
    with pytest.raises(FileNotFoundError, match='no baseline file .*alexnet.json: name a JSON'):
        load_baseline(path, ['snow'])
    for content in ('{', '[3]', '3', '{"snow": "much"}', '{"cells": [{"name": "snow"}]}'):
        path.write_text(content)
        with pytest.raises(ValueError, match='alexnet.json (is no JSON of|has no positive) flip'):
            load_baseline(path, ['snow'])
    for content in ('{"snow": 0}', '{"tilt": 3}'):
        path.write_text(content)
        with pytest.raises(ValueError, match='has no positive flip probability of snow: '
                           'mFR needs all of them; add it, or give no baseline'):
            load_baseline(path, ['snow'])


def sequence(index, predictions):
    return [dict(sample_idx=index, pred_label=torch.tensor([p])) for p in predictions]


def test_flip_probability_metric():
    metric = FlipProbability()
    metric.dataset_meta = dict(noise=False, stride=1, num_frames=3)
    metric.process({}, sequence(0, [1, 1, 1]) + sequence(1, [1, 2, 1]))
    metric.process({}, sequence(2, [1, 1, 2]))
    assert metric.evaluate(3) == {'flip/probability': pytest.approx(50)}  # 0, 100, 50
    metric.baseline = 40.0
    metric.process({}, sequence(0, [1, 1, 2]))
    assert metric.evaluate(1) == {'flip/probability': 50, 'flip/rate': pytest.approx(125)}
    with pytest.raises(ValueError, match='sequence 0 came with 2 of 3 frames: .*collate_seq'):
        metric.process({}, sequence(0, [1, 1]))


def test_subset_accuracy_by_both_conventions():
    indices = CLASS_SETS['imagenet-a']
    outside = next(i for i in range(1000) if i not in indices)

    def sample(label, best, among):
        score = torch.zeros(1000)
        score[among], score[best] = 0.3, 0.6
        return dict(gt_label=torch.tensor([label]), pred_score=score)

    metric = SubsetAccuracy('imagenet-a')
    metric.process({}, [
        sample(indices[5], indices[5], indices[0]),  # right either way
        sample(indices[5], outside, indices[5]),  # right among the 200 only
        sample(indices[5], outside, indices[0]),
        sample(indices[5], indices[0], indices[5]),
        sample(outside, outside, indices[5])])  # of another class: does not count
    assert metric.evaluate(5) == {'accuracy/top1_of_200': 50, 'accuracy/top1_of_1000': 25}
    metric.process({}, [sample(outside, outside, outside)])
    assert all(math.isnan(value) for value in metric.evaluate(1).values())
    with pytest.raises(ValueError, match="needs the scores of ImageNet's 1000 classes, the mod"):
        metric.process({}, [dict(gt_label=torch.tensor([0]), pred_score=torch.zeros(10))])
