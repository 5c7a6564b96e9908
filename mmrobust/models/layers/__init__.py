from .attention import PatchReasoning, SelfAttention
from .checkpoint import checkpoint
from .listening import AttentionListener, attend, current_listener, listening, observe
from .tap import TokenAwareAvgPooling

__all__ = ['AttentionListener', 'PatchReasoning', 'SelfAttention', 'TokenAwareAvgPooling',
           'attend', 'checkpoint', 'current_listener', 'listening', 'observe']
