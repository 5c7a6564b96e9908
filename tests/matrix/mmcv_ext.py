"""Stands in for mmcv's compiled operators beside mmcv-lite, so that mmseg and mmdet import.

Non-maximum suppression, which detectors need, is torchvision's. All others raise. Copy it to
``mmcv/_ext.py`` of a test environment; where a model is to be used, install the full mmcv.
"""
import torch
from torchvision.ops import nms as _nms


def nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float,
        offset: int = 0) -> torch.Tensor:
    """Kept boxes, best first; ``offset`` 1 counts pixels as mmcv's old convention does."""
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    return _nms(boxes.float(), scores.float(), iou_threshold)


def __getattr__(name: str):
    if name.startswith('__'):
        raise AttributeError(name)

    def missing(*args, **kwargs):
        raise NotImplementedError(f'mmcv.ops.{name}: this mmcv has no compiled operators')

    return missing
