"""A decode head that has nothing left to do."""
from mmrobust.utils.hosts import require

require('mmseg')

from mmengine.registry import MODELS
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn


@MODELS.register_module(force=True)
class LogitsHead(BaseDecodeHead):
    """Hands on the logits of a network that stands in the place of the backbone.

    Args:
        num_classes (int): Number of its classes.
        ignore_index (int): Label that does not count. Defaults to 255.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255):
        super().__init__(1, 1, num_classes=num_classes, out_channels=num_classes, dropout_ratio=0,
                         ignore_index=ignore_index, init_cfg=None)
        self.conv_seg = nn.Identity()  # the base class's would add random weights

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """``(logits,)`` to logits (N, classes, H, W)."""
        return inputs[-1]
