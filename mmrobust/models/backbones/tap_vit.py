"""MMPretrain's vision transformer (ViT, DeiT) with token-aware average pooling."""
from mmrobust.utils.hosts import require

require('mmpretrain')

from mmengine.registry import MODELS
from mmpretrain.models.backbones.vision_transformer import (
    TransformerEncoderLayer,
    VisionTransformer,
)
from torch import Tensor, nn

from mmrobust.models.layers.host_block import TAPBlockMixin
from mmrobust.models.layers.listening import attend


class TAPEncoderLayer(TAPBlockMixin, TransformerEncoderLayer):
    """The host's layer; ``grid`` is the patch grid of the image that is being processed."""

    grid: tuple[int, int]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x, self.grid)

    def mix(self, x: Tensor, pooled: Tensor, hw: tuple[int, int]) -> Tensor:
        x = x + self.attn(self.ln1(pooled))
        return self.ffn(self.ln2(x), identity=x)


@MODELS.register_module(force=True)
class TAPVisionTransformer(VisionTransformer):
    """ViT and DeiT whose self-attention is pooled token-aware and can be diversified.

    The class token is not pooled; it takes part in the diversification loss like any token.
    Checkpoints of the host load, with only ``tap.*`` missing.

    Args:
        *args: Of :class:`mmpretrain.models.VisionTransformer`.
        tap (dict, optional): ``dict(num_branches=4)`` puts token-aware average pooling in front
            of every self-attention; see :class:`TokenAwareAvgPooling` for its options. ``None``
            is the host's model. Defaults to None.
        with_cp (bool): Whether to recompute activations in backward. Defaults to False.
        **kwargs: Of the host, such as ``arch='deit-base'``.
    """

    def __init__(self, *args, tap: dict | None = None, with_cp: bool = False, **kwargs):
        super().__init__(*args, **kwargs)
        for layer in self.layers:
            TAPEncoderLayer.adopt(layer, self.embed_dims, tap, with_cp)
            layer.attn.scaled_dot_product_attention = attend
        # the host's loop over the layers hands them tokens only
        self.patch_embed.register_forward_hook(self._share_grid)
        if self.frozen_stages > 0:
            self._freeze_stages()

    def _share_grid(self, patch_embed: nn.Module, args: tuple, out: tuple) -> None:
        for layer in self.layers:
            layer.grid = tuple(out[1])

    def train(self, mode: bool = True) -> 'TAPVisionTransformer':
        """Training mode; frozen parts, whose pooling has running statistics, stay in evaluation
        mode."""
        super().train(mode)
        if self.frozen_stages > 0:
            self._freeze_stages()
        return self
