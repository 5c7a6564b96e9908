"""MMSegmentation's mix transformer (SegFormer) with token-aware average pooling."""
from mmrobust.utils.hosts import require

require('mmseg')

import torch.nn.functional as F
from mmengine.registry import MODELS
from mmseg.models.backbones.mit import MixVisionTransformer, TransformerEncoderLayer
from torch import Tensor, nn

from mmrobust.models.layers.host_block import TAPBlockMixin, become
from mmrobust.models.layers.listening import attend, current_listener
from mmrobust.models.layers.tap import TokenAwareAvgPooling
from mmrobust.models.layers.tokens import merge_heads, split_heads


class ListenedMultiheadAttention(nn.MultiheadAttention):
    """PyTorch's module, as the host calls it, which an active listener takes part in."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, **kwargs):
        """Queries (Nq, B, C), keys and values (Nk, B, C) to (Nq, B, C) and, maybe, weights."""
        if current_listener() is None:
            return super().forward(query, key, value, **kwargs)
        weights = self.in_proj_weight.chunk(3)
        biases = self.in_proj_bias.chunk(3) if self.in_proj_bias is not None else (None,) * 3
        q, k, v = (split_heads(F.linear(x, w, b).transpose(0, 1), self.num_heads)
                   for x, w, b in zip((query, key, value), weights, biases, strict=True))
        out = attend(q, k, v, dropout_p=self.dropout if self.training else 0., layer=self)
        return self.out_proj(merge_heads(out)).transpose(0, 1), None


class TAPMixLayer(TAPBlockMixin, TransformerEncoderLayer):
    """The host's layer."""

    def mix(self, x: Tensor, pooled: Tensor, hw: tuple[int, int]) -> Tensor:
        x = self.attn(self.norm1(pooled), hw, identity=x)
        return self.ffn(self.norm2(x), hw, identity=x)


@MODELS.register_module(force=True)
class TAPMixVisionTransformer(MixVisionTransformer):
    """MiT whose efficient self-attention is pooled token-aware and can be diversified.

    Keys are fewer than queries where the host reduces them; the threshold of the diversification
    loss is relative to the number of keys. Checkpoints of the host load, with only ``tap.*``
    missing.

    Args:
        *args: Of :class:`mmseg.models.MixVisionTransformer`.
        tap (dict, optional): ``dict(num_branches=4)`` puts token-aware average pooling in front
            of every self-attention; see :class:`TokenAwareAvgPooling` for its options. ``None``
            is the host's model. Defaults to None.
        **kwargs: Of the host.
    """

    def __init__(self, *args, tap: dict | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        for _, blocks, _ in self.layers:
            for block in blocks:
                TAPMixLayer.adopt(block, block.attn.embed_dims, tap, block.with_cp)
                become(block.attn.attn, ListenedMultiheadAttention)

    def init_weights(self) -> None:
        """The host's, which initialises every convolution, except for the pooling."""
        super().init_weights()
        if self.init_cfg is None:
            for module in self.modules():
                if isinstance(module, TokenAwareAvgPooling):
                    for part in module.modules():
                        if isinstance(part, nn.Conv2d):
                            part.reset_parameters()
