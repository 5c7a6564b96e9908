"""How far the confidence of a model can be trusted: calibration, and telling wrong from right.

Everything is a function of a few counts, so any number of pixels takes constant memory and several
processes add theirs up. Confidence is the predicted probability of the predicted class.
"""
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

BINS = 15
# a histogram over the log-odds of the confidence: even where nearly all of it is above 0.999,
# what differs by a quarter of a per cent in its odds falls into different bins
FINE, LOWEST, HIGHEST = 1 << 14, -10., 30.
PIECE = 1 << 17


def _zeros(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
    return field(default_factory=lambda: torch.zeros(shape, dtype=dtype))


@dataclass
class Confidences:
    """Counts of predictions by confidence, and the sums of their scores.

    Attributes:
        histogram (Tensor): (2, FINE), wrong and right predictions by the log-odds of confidence.
        bins (Tensor): (2, BINS), the same in equal steps of confidence, (0, 1/15], (1/15, 2/15]...
        confidence (Tensor): (BINS,), summed confidence of each of them, float64.
        brier, nll (Tensor): Sums of Brier scores and negative log likelihoods, float64.
    """
    histogram: Tensor = _zeros(2, FINE)
    bins: Tensor = _zeros(2, BINS)
    confidence: Tensor = _zeros(BINS, dtype=torch.float64)
    brier: Tensor = _zeros(dtype=torch.float64)
    nll: Tensor = _zeros(dtype=torch.float64)

    def __add__(self, other: 'Confidences') -> 'Confidences':
        return Confidences(*(own + more for own, more in zip(
            vars(self).values(), vars(other).values(), strict=True)))

    def add(self, logits: Tensor, predicted: Tensor, labels: Tensor, known: Tensor) -> None:
        """Count some predictions.

        Args:
            logits (Tensor): (classes, N), or the logarithm of probabilities.
            predicted, labels (Tensor): (N,) classes.
            known (Tensor): (N,), which of them count.
        """
        for piece in zip(logits.split(PIECE, 1), *(x.split(PIECE) for x in (
                predicted, labels, known)), strict=True):
            self._add(*piece)

    def _add(self, logits: Tensor, predicted: Tensor, labels: Tensor, known: Tensor) -> None:
        labels = labels.where(known, 0)
        shifted = logits.float() - logits.amax(0).float()
        each = shifted.exp()
        total, squares = each.sum(0), each.square().sum(0)
        own = each.gather(0, predicted[None])[0]
        of_label = each.gather(0, labels[None])[0] / total
        # without the predicted class, not less it: next to 1 the others would be lost in rounding
        others = each.scatter_(0, predicted[None], 0.).sum(0)
        confidence, odds = (own / total)[known], (own.log() - others.log())[known]
        right = (predicted == labels)[known].long()

        def counts(place: Tensor, number: int) -> Tensor:
            return torch.bincount(place + number * right, minlength=2 * number).view(2, number)

        fine = ((odds.nan_to_num(LOWEST) - LOWEST) * (FINE / (HIGHEST - LOWEST))).clamp(0, FINE - 1)
        bins = (confidence.nan_to_num() * BINS).ceil().long().sub(1).clamp(0, BINS - 1)
        found = (counts(fine.long(), FINE), counts(bins, BINS),
                 torch.bincount(bins, confidence.double(), BINS),
                 (squares / total.square() - 2 * of_label + 1)[known].double().sum(),
                 (total.log() - shifted.gather(0, labels[None])[0])[known].double().sum())
        for name, more in zip(vars(self), found, strict=True):
            setattr(self, name, getattr(self, name).to(more.device) + more)

    def measures(self) -> dict[str, float | list]:
        """All of :func:`calibration`, :func:`failure_detection` and the bins of the diagram."""
        if not self.bins.sum():
            return {}
        return {**self.calibration(), **self.failure_detection(), **self.reliability()}

    def reliability(self) -> dict[str, list]:
        """Of each bin the number of predictions, their mean confidence and accuracy in per cent."""
        count = self.bins.sum(0)
        some = count.clamp(min=1)
        return {'reliability/count': count.tolist(),
                'reliability/confidence': _where(count, 100 * self.confidence / some),
                'reliability/accuracy': _where(count, 100 * self.bins[1].double() / some)}

    def calibration(self) -> dict[str, float]:
        """Calibration errors in per cent, mean Brier score and negative log likelihood.

        ``ECE`` (Guo et al., ICML 2017): mean difference between confidence and accuracy over 15
        bins of equal width, weighted by what is in them; ``adaptive_ECE`` (Nguyen and O'Connor,
        EMNLP 2015): over 15 bins of equally many predictions. The Brier score is summed over the
        classes, from 0 to 2.
        """
        total = self.bins.sum().item()
        gaps = (self.bins[1] - self.confidence).abs().sum().item()
        return {'calibration/ECE': 100 * gaps / total,
                'calibration/adaptive_ECE': 100 * self._adaptive(),
                'calibration/Brier': self.brier.item() / total,
                'calibration/NLL': self.nll.item() / total}

    def _adaptive(self) -> float:
        count = self.histogram.sum(0).double()
        centres = LOWEST + (torch.arange(FINE, device=count.device, dtype=torch.float64) + .5) * (
            (HIGHEST - LOWEST) / FINE)
        ends = torch.linspace(0, 1, BINS + 1, dtype=torch.float64,
                              device=count.device) * count.sum()

        def parts(values: Tensor) -> Tensor:
            """Sums of each of equally many, predictions of one fine bin shared out evenly."""
            up_to = torch.cat([values.new_zeros(1), values.cumsum(0)])
            passed = torch.cat([count.new_zeros(1), count.cumsum(0)])
            place = torch.searchsorted(passed, ends[1:-1], right=True) - 1
            share = (ends[1:-1] - passed[place]) / count[place]
            inner = up_to[place] + share * values[place]
            return torch.cat([up_to[:1], inner, up_to[-1:]]).diff()

        gaps = parts(self.histogram[1].double()) - parts(centres.sigmoid() * count)
        return (gaps.abs().sum() / count.sum()).item()

    def failure_detection(self) -> dict[str, float]:
        """How well low confidence tells wrong predictions, in per cent; NaN without any.

        ``AUROC`` of right against wrong ones, 50 is chance; ``AUPR`` with the wrong ones as
        positives, whose share is chance; ``FPR95``: share of the wrong ones that are kept where 95
        of 100 right ones are (Hendrycks and Gimpel, ICLR 2017).
        """
        wrong, right = self.histogram.double()
        if not wrong.sum() or not right.sum():
            return {f'failure_detection/{name}': math.nan for name in ('AUROC', 'AUPR', 'FPR95')}
        below = wrong.cumsum(0)
        area = (right * (below - wrong / 2)).sum() / (right.sum() * wrong.sum())
        rejected = below + right.cumsum(0)
        precision = (wrong * below / rejected.clamp(min=1)).sum() / wrong.sum()
        kept, wanted = right.flip(0).cumsum(0), .95 * right.sum()
        at = int((kept >= wanted).nonzero()[0])
        # the bin that holds the threshold is shared out evenly
        beyond = (kept[at] - wanted) / right.flip(0)[at]
        accepted = (wrong.flip(0).cumsum(0)[at] - beyond * wrong.flip(0)[at]) / wrong.sum()
        return {'failure_detection/AUROC': 100 * area.item(),
                'failure_detection/AUPR': 100 * precision.item(),
                'failure_detection/FPR95': 100 * accepted.item()}


def _where(count: Tensor, values: Tensor) -> list[float]:
    return values.where(count > 0, torch.nan).tolist()
