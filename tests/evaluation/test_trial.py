"""Metrics that cannot work end a plain test or a validation at its first batch."""
from types import SimpleNamespace

import pytest
import torch
from mmseg.evaluation import IoUMetric

from mmrobust.evaluation.trial import CheckMetricsHook


def runner(metric):
    metric.dataset_meta = dict(classes=('a', 'b'))
    metric.results = [tuple(torch.ones(2) for _ in range(4))]
    evaluator = SimpleNamespace(metrics=[metric])
    return SimpleNamespace(test_loop=None, test_evaluator=evaluator, val_evaluator=evaluator)


@pytest.mark.parametrize('phase', ['test', 'val'])
def test_a_metric_that_does_not_exist(phase):
    after = getattr(CheckMetricsHook(), f'after_{phase}_iter')
    with pytest.raises(ValueError, match=rf'metric IoUMetric .*mFoo.*correct {phase}_evalu'):
        after(runner(IoUMetric(iou_metrics=['mFoo'])), 0)
    after(runner(IoUMetric(iou_metrics=['mFoo'])), 1)  # only the first batch


def test_metrics_are_left_as_they_are():
    metric = IoUMetric(iou_metrics=['mIoU'])
    CheckMetricsHook().after_test_iter(runner(metric), 0)
    assert len(metric.results) == 1
