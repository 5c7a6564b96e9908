"""Attention that a host library computes, shown to the diversification loss."""
import torch

from mmrobust.models import AttentionDiversificationLoss
from mmrobust.models.layers import SelfAttention
from mmrobust.models.layers.listening import current_listener, listening, observe
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


class Note:
    """Takes down who speaks and leaves the computation to others."""

    def __init__(self, layers):
        self.layers = layers

    def attend(self, q, k, v, *, scale, logit_mask, layer):
        self.layers.append(layer)

    def silent(self):
        return Note([])


def test_several_listen():
    """Whichever is inside: both hear of the layer, and the one that computes gives the output."""
    layer, x = SelfAttention(8, 2), torch.randn(2, 6, 8)
    alone = layer(x, (2, 3))
    loss = AttentionDiversificationLoss(tau=1.)
    outputs, values = [], []
    for inside in (False, True):
        heard = []
        contexts = [lambda heard=heard: listening(Note(heard)), loss.listen]
        first, second = reversed(contexts) if inside else contexts
        with first() as one, second() as other:
            outputs.append(layer(x, (2, 3)))
            with listening(None):
                layer(x, (2, 3))
        records = one if inside else other
        assert heard == [layer] and len(records) == 1
        values.append(loss(records))
    assert current_listener() is None
    assert torch.equal(*outputs) and torch.equal(*values)
    torch.testing.assert_close(outputs[0], alone)
    heard = []
    with listening(Note(heard)):
        assert torch.equal(layer(x, (2, 3)), alone)
    assert heard == [layer]
