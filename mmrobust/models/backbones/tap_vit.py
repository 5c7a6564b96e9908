"""MMPretrain's vision transformer (ViT, DeiT) with token-aware average pooling."""
from mmrobust.utils.hosts import require

require('mmpretrain')

from mmengine.registry import MODELS
from mmpretrain.models.backbones.vision_transformer import (
    TransformerEncoderLayer,
    VisionTransformer,
)
from mmpretrain.models.utils import MultiheadAttention
from torch import Tensor, nn

from mmrobust.models.layers.host_block import TAPBlockMixin, become
from mmrobust.models.layers.listening import attend

# The patch grid of the images on their way through a model: the host's loop over the layers hands
# them tokens only. A plain global rather than a context variable: torch.compile can guard on it.
_grid: tuple[int, int] | None = None


def _note_grid(patch_embed: nn.Module, args: tuple, out: tuple) -> None:
    global _grid
    _grid = tuple(out[1])


class ListenedAttention(MultiheadAttention):
    """The host's module, which an active listener takes part in."""

    reports_attention = True

    @classmethod
    def adopt(cls, module: nn.Module) -> None:
        """Make a module of the host ours, in place."""
        become(module, cls)
        del module.scaled_dot_product_attention  # of the host, before the method of ours

    def scaled_dot_product_attention(self, q: Tensor, k: Tensor, v: Tensor,
                                     dropout_p: float = 0.) -> Tensor:
        return attend(q, k, v, dropout_p=dropout_p, layer=self)


class TAPEncoderLayer(TAPBlockMixin, TransformerEncoderLayer):
    """The host's layer, within a :class:`TAPVisionTransformer`."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x, _grid)

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
            ListenedAttention.adopt(layer.attn)
        self.patch_embed.register_forward_hook(_note_grid)
        if self.frozen_stages > 0:
            self._freeze_stages()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Image (B, 3, H, W) to what the host returns."""
        global _grid
        outer = _grid
        try:
            return super().forward(x)
        finally:
            _grid = outer

    def train(self, mode: bool = True) -> 'TAPVisionTransformer':
        """Training mode; frozen parts, whose pooling has running statistics, stay in evaluation
        mode."""
        super().train(mode)
        if self.frozen_stages > 0:
            self._freeze_stages()
        return self
