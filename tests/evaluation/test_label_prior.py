import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmrobust.evaluation.label_prior import label_prior_miou


def samples(*maps):
    return [dict(data_samples=SegDataSample(gt_sem_seg=PixelData(data=torch.tensor([m]))))
            for m in maps]


def test_by_hand():
    train = samples([[0, 1], [1, 255]], [[0, 1], [2, 2]], [[1, 1], [2, 2]])
    # most frequent: [[0, 1], [2, 2]]
    val = samples([[0, 1], [1, 2]], [[0, 0], [2, 255]])
    mean, iou = label_prior_miou(train, val, num_classes=4)
    np.testing.assert_allclose(iou, [200 / 3, 100 / 3, 200 / 3, np.nan])
    assert mean == pytest.approx(500 / 9)
