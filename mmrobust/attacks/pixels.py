"""Losses of a segmenter's pixels that attacks ascend on, and how bad an image has become."""
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass
class Pixels:
    """What a segmenter says of the N pixels of one image.

    Attributes:
        scores (Tensor): (classes, N) logits.
        losses (Tensor): (N,), what it was trained with, of each.
        predicted, labels (Tensor): (N,) classes.
        known (Tensor): (N,), which pixels are labelled.
        exclusive (bool): Whether the classes of a pixel share one probability (softmax) or have
            one each (sigmoid).
    """
    scores: Tensor
    losses: Tensor
    predicted: Tensor
    labels: Tensor
    known: Tensor
    exclusive: bool = True

    @property
    def right(self) -> Tensor:
        """(N,), whether a labelled pixel gets its class."""
        return self.known & (self.predicted == self.labels)

    def mean(self, values: Tensor) -> Tensor:
        """Mean of (N,) values over the labelled pixels."""
        return (values * self.known).sum() / self.known.sum().clamp(min=1)

    def probabilities(self) -> Tensor:
        """(classes, N)."""
        return self.scores.softmax(0) if self.exclusive else self.scores.sigmoid()

    def targets(self) -> Tensor:
        """(classes, N), one for the label, else zero; nothing but zero without a label."""
        labels = self.labels.where(self.known, 0)
        return (F.one_hot(labels, len(self.scores)).T * self.known).to(self.scores)


def cross_entropy(pixels: Pixels, progress: float) -> Tensor:
    """What the model was trained with: plain PGD."""
    return pixels.mean(pixels.losses)


def segpgd(pixels: Pixels, progress: float) -> Tensor:
    """Right pixels count 1 - t / 2T in step t of T, wrong ones t / 2T (Gu et al., ECCV 2022)."""
    weight = torch.where(pixels.right, 1 - progress / 2, progress / 2)
    return pixels.mean(weight * pixels.losses)


def cospgd(pixels: Pixels, progress: float) -> Tensor:
    """Weighted with the cosine of prediction and label (Agnihotri et al., ICML 2024)."""
    weight = F.cosine_similarity(pixels.probabilities(), pixels.targets(), dim=0).detach()
    return pixels.mean(weight * pixels.losses)


def masked(pixels: Pixels, progress: float) -> Tensor:
    """Of the pixels that are still right only."""
    return pixels.mean(pixels.right * pixels.losses)


def masked_balanced(pixels: Pixels, progress: float) -> Tensor:
    """The same, weighted so that each class of the image counts as much as any other."""
    labels = pixels.labels[pixels.known]
    count = torch.bincount(labels, minlength=len(pixels.scores))
    weight = len(labels) / ((count > 0).sum() * count.clamp(min=1))
    return pixels.mean(weight[pixels.labels.where(pixels.known, 0)] * pixels.right * pixels.losses)


def jensen_shannon(pixels: Pixels, progress: float) -> Tensor:
    """Divergence of prediction and label: bounded, so that no pixel takes it all."""
    log_p, target = pixels.scores.log_softmax(0), pixels.targets()
    p = log_p.exp()
    log_middle = ((p + target) / 2).clamp_min(torch.finfo(p.dtype).tiny).log()
    return pixels.mean((p * (log_p - log_middle) - target * log_middle).sum(0) / 2)


PIXEL_LOSSES: dict[str, Callable[[Pixels, float], Tensor]] = dict(
    ce=cross_entropy, segpgd=segpgd, cospgd=cospgd, mask_ce=masked, mask_ce_bal=masked_balanced,
    js=jensen_shannon)
"""Name to a function of pixels and of how much of the steps is done (0 to 1)."""


def image_counts(pixels: Pixels) -> Tensor:
    """(3, classes) labelled pixels of one image: hit, predicted and labelled of each class."""
    return torch.stack([torch.bincount(of, minlength=len(pixels.scores)) for of in (
        pixels.labels[pixels.right], pixels.predicted[pixels.known], pixels.labels[pixels.known])])


def image_iou(pixels: Pixels) -> Tensor:
    """Mean IoU (0 to 1) of one image over the classes that occur or are predicted in it."""
    hits, predicted, labelled = image_counts(pixels).double()
    union = predicted + labelled - hits
    there = union > 0
    return (hits[there] / union[there]).sum() / there.sum().clamp(min=1)
