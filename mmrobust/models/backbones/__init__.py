from .dino import DINOv2, DINOv3
from .fan import (
    FAN,
    ChannelProcessing,
    ClassAttention,
    ClassAttentionBlock,
    ConvMLP,
    ConvNeXtStem,
    ConvPatchEmbed,
    FourierPositionEncoding,
    HybridEmbed,
)
from .rvt import RVT

__all__ = ['DINOv2', 'DINOv3', 'FAN', 'RVT', 'ChannelProcessing', 'ClassAttention',
           'ClassAttentionBlock', 'ConvMLP', 'ConvNeXtStem', 'ConvPatchEmbed',
           'FourierPositionEncoding', 'HybridEmbed']
