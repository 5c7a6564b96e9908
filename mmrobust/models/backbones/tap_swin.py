"""MMPretrain's Swin transformer with token-aware average pooling."""
from mmrobust.utils.hosts import require

require('mmpretrain')

from mmengine.registry import MODELS
from mmpretrain.models.backbones.swin_transformer import SwinBlock, SwinTransformer
from torch import Tensor, nn

from mmrobust.models.layers.host_block import TAPBlockMixin
from mmrobust.models.layers.listening import observe


class ObservedSoftmax(nn.Softmax):
    """The softmax of window attention, which shows its result to an active listener.

    Args:
        dropout_p (float): Dropout of the attention that follows.
    """

    def __init__(self, dropout_p: float):
        super().__init__(dim=-1)
        self.dropout_p = dropout_p

    def forward(self, logits: Tensor) -> Tensor:
        attention = super().forward(logits)
        observe(attention, self.dropout_p if self.training else 0., layer=self)
        return attention


class TAPSwinBlock(TAPBlockMixin, SwinBlock):
    """The host's block."""

    def mix(self, x: Tensor, pooled: Tensor, hw: tuple[int, int]) -> Tensor:
        x = x + self.attn(self.norm1(pooled), hw)
        return self.ffn(self.norm2(x), identity=x)


@MODELS.register_module(force=True)
class TAPSwinTransformer(SwinTransformer):
    """Swin whose window attention is pooled token-aware and can be diversified.

    Tokens are pooled on the whole map, before it is cut into windows. Every window is an
    attention map of its own for the diversification loss. Checkpoints of the host load, with
    only ``tap.*`` missing.

    Args:
        *args: Of :class:`mmpretrain.models.SwinTransformer`.
        tap (dict, optional): ``dict(num_branches=4)`` puts token-aware average pooling in front
            of every self-attention; see :class:`TokenAwareAvgPooling` for its options. ``None``
            is the host's model. Defaults to None.
        **kwargs: Of the host.
    """

    def __init__(self, *args, tap: dict | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        for stage in self.stages:
            for block in stage.blocks:
                TAPSwinBlock.adopt(block, stage.embed_dims, tap, block.with_cp)
                window_attention = block.attn.w_msa
                window_attention.softmax = ObservedSoftmax(window_attention.attn_drop.p)
        self._register_load_state_dict_pre_hook(self._rename_old_keys)

    def _rename_old_keys(self, state_dict: dict, prefix: str, *args) -> None:
        """Checkpoints of the host's first versions, which it converts for its own class only."""
        last = f'{prefix}norm{len(self.stages) - 1}.'
        for key in [k for k in state_dict if k.startswith(prefix)]:
            if key.startswith(f'{prefix}norm.'):
                state_dict[key.replace(f'{prefix}norm.', last, 1)] = state_dict.pop(key)
            elif key.endswith('attn_mask'):
                del state_dict[key]

    def train(self, mode: bool = True) -> 'TAPSwinTransformer':
        """Training mode, less what is frozen."""
        super().train(mode)
        return self
