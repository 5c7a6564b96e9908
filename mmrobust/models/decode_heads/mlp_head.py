"""The all-MLP decode head of the papers' segmentation models."""
from mmrobust.utils.hosts import require

require('mmseg')

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.registry import MODELS
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn


@MODELS.register_module(force=True)
class MLPDecodeHead(BaseDecodeHead):
    """SegFormer's decode head in its original form, which the published weights have.

    A linear layer projects each map; the projections, upsampled to the first map, are
    concatenated from the coarsest to the finest and fused by a 1x1 convolution with
    normalisation and ReLU ("SegFormer", NeurIPS 2021, section 3.2). MMSegmentation's own
    ``SegformerHead`` normalises each projection and concatenates in the opposite order, so it
    cannot hold those weights.

    Projection and fusion are both linear and bilinear upsampling commutes with them. So the two
    matrices of each map are multiplied first and applied at the map's own resolution, and the
    results are upsampled and added: the same numbers without the wide concatenation, which at
    1024 x 1024 pixels is 0.8 GB per image.

    Args:
        channels (int): Width of the projections and of the fused map. Defaults to 768.
        **kwargs: Arguments of MMSegmentation's ``BaseDecodeHead``, such as ``in_channels`` and
            ``in_index`` (one entry per map), ``num_classes``, ``dropout_ratio`` and
            ``norm_cfg``.
    """

    def __init__(self, channels: int = 768, **kwargs):
        super().__init__(channels=channels, input_transform='multiple_select', **kwargs)
        self.linears = nn.ModuleList(nn.Linear(c, channels) for c in self.in_channels)
        self.fusion_conv = ConvModule(channels * len(self.in_channels), channels, 1,
                                      norm_cfg=self.norm_cfg)

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Maps (B, C_i, H_i, W_i) to logits (B, classes, H_0, W_0)."""
        maps = self._transform_inputs(inputs)
        conv = self.fusion_conv.conv
        # one (channels, channels) block of the fusion for each map, the coarsest map's first
        blocks = conv.weight.flatten(1).chunk(len(maps), dim=1)[::-1]
        fused = None
        for x, linear, block in zip(maps, self.linears, blocks, strict=True):
            weight = (block @ linear.weight)[..., None, None]
            x = F.conv2d(x, weight, block @ linear.bias)
            if x.shape[2:] != maps[0].shape[2:]:
                x = F.interpolate(x, maps[0].shape[2:], mode='bilinear',
                                  align_corners=self.align_corners)
            fused = x if fused is None else fused.add_(x)
        if conv.bias is not None:  # where the config asks for no normalisation
            fused = fused + conv.bias[:, None, None]
        else:
            fused = self.fusion_conv.norm(fused)
        return self.cls_seg(self.fusion_conv.activate(fused))
