"""The attention diversification loss (ADL), without a single N x N matrix."""
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmrobust.models.layers.listening import listening
from mmrobust.ops import column_statistics, diverse_attention


class AttentionStatistics(NamedTuple):
    """What one self-attention layer reports.

    Attributes:
        column_sum (Tensor): v, sum of the rows of the (thresholded) attention, (B, M, Nk) for
            B images (or windows) and M maps: 1, or the number of heads.
        normalized_column_sum (Tensor): u, sum of its thresholded, normalised rows, (B, M, Nk).
        num_queries (int): Number of rows.
    """
    column_sum: Tensor
    normalized_column_sum: Tensor
    num_queries: int


class DiversificationListener:
    """Computes attention and collects :class:`AttentionStatistics` of every layer.

    Args:
        tau (float): Entries below tau / (number of keys) are dropped.
        official (bool): Sum all entries, and drop those equal to the threshold.
        per_head (bool): Treat every head as a map of its own.
        records (list, optional): Where the statistics go; None keeps nothing.
    """

    def __init__(self, tau: float, official: bool, per_head: bool,
                 records: list[AttentionStatistics] | None):
        self.tau = tau
        self.official = official
        self.per_head = per_head
        self.records = records

    def silent(self) -> 'DiversificationListener':
        return DiversificationListener(self.tau, self.official, self.per_head, None)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, scale: float,
               logit_mask: Tensor | None, layer: nn.Module | None = None) -> Tensor:
        heads = q.shape[1]
        maps = [slice(i, i + 1) for i in range(heads)] if self.per_head else [slice(heads)]
        outputs, columns, normalized = zip(*[diverse_attention(
            q[:, m], k[:, m], v[:, m], threshold=self.tau, scale=scale,
            logit_mask=None if logit_mask is None else logit_mask[m],
            column_threshold=0. if self.official else None, strict=self.official)
            for m in maps], strict=True)
        if self.records is not None:
            self.records.append(AttentionStatistics(
                torch.stack(columns, 1), torch.stack(normalized, 1), q.shape[2]))
        return torch.cat(outputs, dim=1) if self.per_head else outputs[0]

    def observe(self, attention: Tensor, layer: nn.Module | None = None) -> None:
        maps = attention.to(torch.promote_types(attention.dtype, torch.float32))
        if not self.per_head:  # averaged after the conversion: half precision would round
            maps = maps.mean(dim=1, keepdim=True)  # (B, M, Nq, Nk)
        sums = column_statistics(maps, threshold=self.tau, strict=self.official,
                                 column_threshold=0. if self.official else None)
        if self.records is not None:
            self.records.append(AttentionStatistics(*sums, maps.shape[-2]))


@MODELS.register_module(force=True)
class AttentionDiversificationLoss(nn.Module):
    r"""Makes the rows of an attention map attend to different columns.

    With A the attention averaged over heads, :math:`\hat A_i = 1(A_i \ge \tau/N) A_i` and
    :math:`\bar A = \frac1N \sum_i \hat A_i`, the loss of a layer is
    :math:`\frac1N \sum_i \cos(\hat A_i, \bar A)`, averaged over images and layers ("Robustifying
    Token Attention for Vision Transformers", ICCV 2023, section 3.3, equations 1-3). Since
    :math:`\sum_i \cos(\hat A_i, \bar A) = \langle v, u\rangle / |v|` with
    :math:`v = \sum_i \hat A_i` and :math:`u = \sum_i \hat A_i / |\hat A_i|`, two vectors per
    image and layer suffice. Rows that keep no entry contribute 0.

    Args:
        tau (float): Threshold in units of the uniform attention 1/N. Defaults to 2.
        loss_weight (float): The paper's lambda. Defaults to 1.
        variant (str): ``'paper'``, or ``'official'`` for what the authors' code computes: the
            rows are averaged before the threshold, the mean is thresholded too, entries equal
            to the threshold are dropped, and the sum over L layers is divided by L + 1e-6. (Its
            defect at batch size 1, where it is always 0, is not reproduced.)
            Defaults to ``'paper'``.
        heads (str): ``'mean'`` averages the heads into one map, as the authors do;
            ``'per_head'`` treats every head as a map. Defaults to ``'mean'``.

    Raises:
        ValueError: On a negative tau or weight, or an unknown variant or head handling.
    """

    def __init__(self, tau: float = 2., loss_weight: float = 1., variant: str = 'paper',
                 heads: str = 'mean'):
        super().__init__()
        for name, value in (('tau', tau), ('loss_weight', loss_weight)):
            if not isinstance(value, (int, float)):
                raise ValueError(f'{name}={value!r} is not a number: the paper uses tau=2 and '
                                 'loss_weight=1')
        if tau < 0:
            raise ValueError(f'tau={tau}: the threshold of the attention diversification loss '
                             'cannot be negative; the paper uses 2')
        if loss_weight < 0:
            raise ValueError(f'loss_weight={loss_weight} would reward attention that is not '
                             'diverse: use a weight >= 0')
        if variant not in ('paper', 'official'):
            raise ValueError(f"variant='{variant}': choose 'paper' or 'official'")
        if heads not in ('mean', 'per_head'):
            raise ValueError(f"heads='{heads}': choose 'mean' or 'per_head'")
        self.tau = tau
        self.loss_weight = loss_weight
        self.variant = variant
        self.heads = heads

    @contextmanager
    def listen(self) -> Iterator[list[AttentionStatistics]]:
        """Collect the statistics of every self-attention that runs within the context."""
        records: list[AttentionStatistics] = []
        with listening(DiversificationListener(self.tau, self.variant == 'official',
                                               self.heads == 'per_head', records)):
            yield records

    @contextmanager
    def around(self, model: nn.Module, inputs: Tensor) -> Iterator[list[AttentionStatistics]]:
        """:meth:`listen`, and forget what is not of the clean images."""
        with self.listen() as records:
            yield records
        records[:] = model.of_clean_images(records)

    def losses(self, model: nn.Module, records: list[AttentionStatistics], host_loss: Callable
               ) -> dict[str, Tensor]:
        """``loss_adl``.

        Raises:
            ValueError: If no attention was reported.
        """
        if not records:
            raise ValueError(
                f'{type(self).__name__} is configured, but no self-attention of '
                f'{type(getattr(model, "backbone", model)).__name__} reports to it: use a backbone '
                'of mmrobust, such as FAN, RVT or the TAP version of the host library\'s')
        return dict(loss_adl=self(records))

    def forward(self, records: list[AttentionStatistics]) -> Tensor:
        """The weighted loss, a scalar, of the layers that reported to :meth:`listen`."""
        total = torch.stack([self.similarity(record).mean() for record in records]).sum()
        return self.loss_weight * total / (
            len(records) + (1e-6 if self.variant == 'official' else 0.))

    def similarity(self, record: AttentionStatistics) -> Tensor:
        """Mean cosine (B, M) between the rows of each map and their mean, float32 or better."""
        mean, rows = record.column_sum, record.normalized_column_sum
        if self.variant == 'official':
            bound = self.tau * record.num_queries / mean.shape[-1]
            mean = torch.where(mean > bound, mean, 0.)
        norm = torch.linalg.vector_norm(mean, dim=-1)
        product = (mean * rows).sum(-1)
        return product / torch.where(norm > 0, norm, 1.) / record.num_queries
