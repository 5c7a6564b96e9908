from .diverse_attention import diverse_attention
from .token_pooling import token_aware_avg_pool

__all__ = ['diverse_attention', 'token_aware_avg_pool']
