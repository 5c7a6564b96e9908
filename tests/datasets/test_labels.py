"""Labels that are none of the model's classes are named with their file, wherever they are read."""
from types import SimpleNamespace

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from mmrobust.datasets.labels import (
    CheckLabelsHook,
    check_class_count,
    check_label_map,
    check_labels,
    class_count,
    ignored_labels,
)


class Head(nn.Module):
    def __init__(self, **kwargs):
        super().__init__()
        vars(self).update(kwargs)


class Model(nn.Module):
    def __init__(self, **heads):
        super().__init__()
        vars(self).update(heads)


class Metric:
    def __init__(self, ignore_index=None):
        if ignore_index is not None:
            self.ignore_index = ignore_index


def labels(*values):
    return torch.tensor([values])


@pytest.mark.parametrize('values, classes, ignored', [
    ((0, 18, 255), 19, [255]), ((0, 1, 254), 2, [254]), ((0, 1, -1), 2, [-1]), ((), 2, [255])])
def test_fitting_labels_pass(values, classes, ignored):
    check_label_map(labels(*values).long(), 'a.png', classes, frozenset(ignored))


@pytest.mark.parametrize('values, classes, ignored, message', [
    ((0, 33, 7), 19, [255], r'label map a.png holds labels up to 33 \(33\), the model has 19 clas'),
    ((0, 77), 19, [255], 'holds labels up to 77'),
    ((0, 255), 19, [254], 'holds labels up to 255 .*254 does not count'),
    ((0, -1), 19, [255], 'holds labels up to -1'),
    ((0, 255), 19, [], 'every label does'),
    ((20, 21, 22, 23, 24), 19, [255], r'\(20, 21, 22, 23, \.\.\.\).*labelTrainIds')])
def test_labels_beyond_the_classes(values, classes, ignored, message):
    with pytest.raises(ValueError, match=message):
        check_label_map(labels(*values), 'a.png', classes, frozenset(ignored))


def test_a_picture_is_no_label_map():
    with pytest.raises(ValueError, match=r'a.png has the shape \(4, 5, 3\), a picture of colours'):
        check_label_map(torch.zeros(4, 5, 3).long(), 'a.png', 19)


def test_classes_of_models():
    assert class_count(Model(decode_head=Head(num_classes=19, out_channels=19))) == 19
    assert class_count(Model(decode_head=Head(num_classes=2, out_channels=1))) == 2
    assert class_count(Model(decode_head=nn.ModuleList([Head(num_classes=3),
                                                        Head(num_classes=5)]))) == 5
    assert class_count(Model(module=Model(head=Head(num_classes=7)))) == 7
    assert class_count(Model()) is None
    model = Model(decode_head=Head(ignore_index=3))
    assert ignored_labels(model) == {3}
    assert ignored_labels(model, [Metric(255), Metric()]) == {255}
    assert ignored_labels(model, [Metric(255), Metric(254)]) == set()


def test_every_phase_names_the_file():
    sample = SegDataSample(gt_sem_seg=PixelData(data=labels(0, 30)),
                           metainfo=dict(seg_map_path='x/b.png'))
    runner = type('Runner', (), dict(
        model=Model(decode_head=Head(num_classes=19, ignore_index=255)),
        val_evaluator=type('E', (), dict(metrics=[])),
        test_loop=None, test_evaluator=type('E', (), dict(metrics=[Metric(255)]))))
    hook, batch = CheckLabelsHook(), dict(inputs=[], data_samples=[[sample]])
    for check in (hook.before_train_iter, hook.before_val_iter, hook.before_test_iter):
        with pytest.raises(ValueError, match=r'label map x/b.png holds labels up to 30'):
            check(runner, 0, batch)
    runner.model = Model()  # a model of another kind
    hook.before_train_iter(runner, 0, batch)


def test_classification():
    from mmpretrain.structures import DataSample

    check_labels([DataSample().set_gt_label(9), DataSample().set_gt_label([0, 3])], 10)
    sample = DataSample(metainfo=dict(img_path='c.png')).set_gt_label(10)
    with pytest.raises(ValueError, match='c.png has the label 10, the model has 10 classes, 0 to'):
        check_labels([sample], 10)


def data_set(classes, wrapped=False):
    dataset = SimpleNamespace(metainfo={} if classes is None else dict(
        classes=tuple(map(str, range(classes)))))
    return SimpleNamespace(dataset=dataset) if wrapped else dataset


@pytest.mark.parametrize('outputs, classes', [(19, 19), (2, 1), (2, 2), (10, None), (10, 1000)])
def test_classes_that_fit_pass(outputs, classes):
    check_class_count(Model(decode_head=Head(num_classes=outputs)), data_set(classes))


@pytest.mark.parametrize('wrapped', [False, True])
def test_more_outputs_than_classes_are_refused_before_work(wrapped):
    model, dataset = Model(head=Head(num_classes=1000)), data_set(10, wrapped)
    runner = SimpleNamespace(
        model=model, val_loop=None, train_loop=SimpleNamespace(dataloader=SimpleNamespace(
            dataset=dataset)))
    runner.test_loop = runner.train_loop
    for work in (CheckLabelsHook().before_train, CheckLabelsHook().before_test):
        with pytest.raises(ValueError, match=r'1000 outputs, SimpleNamespace has 10 classes \(0, '
                                             r'1, 2, \.\.\.\): correct num_classes'):
            work(runner)
