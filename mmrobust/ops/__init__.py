from .depthwise_conv import depthwise_conv2d
from .diverse_attention import diverse_attention
from .gelu_mlp import gelu_mlp
from .token_pooling import token_aware_avg_pool

__all__ = ['depthwise_conv2d', 'diverse_attention', 'gelu_mlp', 'token_aware_avg_pool']
