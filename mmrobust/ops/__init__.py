from .attention_rows import attention_rows, column_statistics
from .depthwise_conv import depthwise_conv2d
from .diverse_attention import diverse_attention
from .token_pooling import token_aware_avg_pool

__all__ = ['attention_rows', 'column_statistics', 'depthwise_conv2d', 'diverse_attention',
           'token_aware_avg_pool']
