"""What an attack ascends on: for each image, the loss of what the model predicts for it."""
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .pixels import PIXEL_LOSSES, Pixels


def losses_of(model: nn.Module, inputs: Tensor, samples: Sequence[Any], loss: str = 'ce',
              progress: float = 0.) -> Tensor:
    """Loss (B,) of a batch.

    Classifiers: the cross-entropy of their logits; the head's own loss where an image may have
    several labels; the negative log of the predicted probability where the head has no single
    matrix of logits. Segmentors: the mean over the labelled pixels of the cross-entropy of the
    logits that their own way of testing (whole or slide) predicts at the size of the labels, by
    pixel and class where they were trained so (``use_sigmoid``), of two classes where there is
    one channel. Of several heads the last one predicts.

    Args:
        model (nn.Module): A classifier of MMPretrain's kind or a segmentor of MMSegmentation's.
        inputs (Tensor): What its data preprocessor makes of the images.
        samples (Sequence): Their labelled data samples.
        loss (str): Another of :data:`PIXEL_LOSSES`, for segmenters.
        progress (float): Share of the steps that is done, on which some of them depend.

    Raises:
        ValueError: If there are no labels, or none that fit what the model predicts.
    """
    if all('gt_sem_seg' in sample for sample in samples):
        return torch.stack([PIXEL_LOSSES[loss](pixels, progress)
                            for pixels in pixels_of(model, inputs, samples)])
    if loss != 'ce':
        raise ValueError(f"loss='{loss}' weighs the pixels of a segmenter, and the labels are "
                         "those of a classifier: use loss='ce', or autoattack")
    if all('gt_label' in sample for sample in samples):
        return _classification(model, inputs, samples)
    raise ValueError('an attack needs labels: the data samples have neither gt_label '
                     '(classification, one task) nor gt_sem_seg (segmentation)')


def pixels_of(model: nn.Module, inputs: Tensor, samples: Sequence[Any]) -> list[Pixels]:
    """What a segmenter says of the pixels of each image of a batch, see :func:`losses_of`."""
    if not all('gt_sem_seg' in sample for sample in samples):
        raise ValueError('an attack on pixels needs label maps: the data samples have no '
                         'gt_sem_seg; add LoadAnnotations to the test pipeline, or attack a '
                         'classifier with autoattack')
    head = model.decode_head
    if isinstance(head, nn.ModuleList):  # a cascade
        head = head[-1]
    objectives = getattr(head, 'loss_decode', None)
    if objectives is None or not hasattr(model, 'inference'):
        raise ValueError(f'{type(head).__name__} of {type(model).__name__} predicts no logits of '
                         'classes that an attack could use: attack a segmentor whose head has a '
                         'loss_decode')
    objectives = objectives if isinstance(objectives, nn.ModuleList) else [objectives]
    logits = model.inference(inputs, [sample.metainfo for sample in samples])
    each_class = logits.shape[1] > 1 and all(
        getattr(objective, 'use_sigmoid', False) for objective in objectives)
    threshold = None
    if logits.shape[1] == 1:  # the sigmoid of one logit is the softmax of it and 0
        threshold = torch.logit(torch.tensor(float(head.threshold))).item()
        logits = torch.cat([torch.zeros_like(logits), logits], 1)
    found = []
    for sample in model.postprocess_result(logits, samples):
        labels = sample.gt_sem_seg.data.long().to(inputs.device)  # (1, H, W)
        scores = sample.seg_logits.data[None].float()  # (1, classes, H, W)
        if labels.shape[-2:] != scores.shape[-2:]:
            raise ValueError(
                f'the labels are {labels.shape[-1]} x {labels.shape[-2]} pixels, the prediction '
                f'{scores.shape[-1]} x {scores.shape[-2]}: load the labels after resizing')
        known = labels != head.ignore_index
        _check_labels(labels[known], scores.shape[1])
        if each_class:
            targets = F.one_hot(labels.where(known, 0), scores.shape[1]).movedim(-1, 1)
            each = F.binary_cross_entropy_with_logits(
                scores, targets.float(), reduction='none').sum(1)
        else:
            each = F.cross_entropy(scores, labels, ignore_index=head.ignore_index,
                                   reduction='none')
        scores = scores[0].flatten(1)
        predicted = (scores.argmax(0) if threshold is None
                     else (scores[1] - scores[0] > threshold).long())
        found.append(Pixels(scores, each.flatten(), predicted, labels.flatten(), known.flatten(),
                            not each_class))
    return found


def _classification(model: nn.Module, inputs: Tensor, samples: Sequence[Any]) -> Tensor:
    head = getattr(model, 'head', None)
    if any(cls.__name__.startswith('MultiLabel') for cls in type(head).__mro__):
        return _multi_label(model, inputs, samples)
    labels = torch.cat([sample.gt_label for sample in samples]).to(inputs.device)
    if len(labels) != len(samples):
        raise ValueError(f'the images have several labels, {type(head).__name__} predicts one: '
                         'use a head for several labels')
    logits = model(inputs, mode='tensor')
    if isinstance(logits, Tensor) and logits.ndim == 2:
        _check_labels(labels, logits.shape[1])
        return F.cross_entropy(logits.float(), labels, reduction='none')
    predicted = model.predict(inputs, samples)
    if not all('pred_score' in sample and sample.pred_score.ndim == 1 for sample in predicted):
        raise ValueError(f'{type(head).__name__} of {type(model).__name__} predicts no '
                         'probabilities of classes that an attack could use')
    scores = torch.stack([sample.pred_score for sample in predicted]).float()
    _check_labels(labels, scores.shape[1])
    # several logits may have been added up before: what counts is the share of the label
    return -scores.clamp_min(torch.finfo(scores.dtype).tiny).log().gather(1, labels[:, None])[:, 0]


def _multi_label(model: nn.Module, inputs: Tensor, samples: Sequence[Any]) -> Tensor:
    logits = model(inputs, mode='tensor').float()
    losses = []
    for score, sample in zip(logits, samples, strict=True):
        if 'gt_score' in sample:
            target = sample.gt_score.to(score)
        else:
            labels = sample.gt_label.to(score.device)
            _check_labels(labels, len(score))
            target = torch.zeros_like(score).scatter(0, labels, 1.)
        losses.append(model.head.loss_module(score[None], target[None], avg_factor=1))
    return torch.stack(losses)


def _check_labels(labels: Tensor, classes: int) -> None:
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(f'the labels go from {int(labels.min())} to {int(labels.max())}, the '
                         f'model predicts {classes} classes, counted from 0: use labels of its '
                         'classes (labelTrainIds for Cityscapes), or a model with more')
