from .diverse_attention import diverse_attention
from .gelu_mlp import gelu_mlp
from .token_pooling import token_aware_avg_pool

__all__ = ['diverse_attention', 'gelu_mlp', 'token_aware_avg_pool']
