from .attention import ClassAttention, ClassAttentionBlock, SelfAttention
from .channel_processing import ChannelProcessing, ConvMLP
from .checkpoint import checkpoint
from .convnext_stem import ConvNeXtStem
from .embeddings import ConvPatchEmbed, FourierPositionEncoding, HybridEmbed
from .listening import AttentionListener, attend, current_listener, listening, observe
from .tap import TokenAwareAvgPooling

__all__ = [
    'AttentionListener', 'ChannelProcessing', 'ClassAttention', 'ClassAttentionBlock', 'ConvMLP',
    'ConvNeXtStem', 'ConvPatchEmbed', 'FourierPositionEncoding', 'HybridEmbed', 'SelfAttention',
    'TokenAwareAvgPooling', 'attend', 'checkpoint', 'current_listener', 'listening', 'observe',
]
