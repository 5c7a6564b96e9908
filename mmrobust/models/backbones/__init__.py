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

__all__ = ['FAN', 'RVT', 'ChannelProcessing', 'ClassAttention', 'ClassAttentionBlock', 'ConvMLP',
           'ConvNeXtStem', 'ConvPatchEmbed', 'FourierPositionEncoding', 'HybridEmbed']
