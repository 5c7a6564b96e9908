"""Attention that a host library computes, shown to the diversification loss."""
import torch

from mmrobust.models import AttentionDiversificationLoss
from mmrobust.models.layers.listening import listening, observe
from mmrobust.models.losses.attention_diversification import DiversificationListener


def test_heads_are_averaged_in_single_precision():
    attention = torch.randn(2, 8, 24, 24).softmax(-1).bfloat16()
    values = []
    for shown in (attention, attention.float()):
        records = []
        with listening(DiversificationListener(1., False, False, records)):
            observe(shown)
        values.append(AttentionDiversificationLoss(tau=1.)(records))
    assert torch.equal(*values)
