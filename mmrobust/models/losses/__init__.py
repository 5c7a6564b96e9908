from .attention_diversification import AttentionDiversificationLoss

__all__ = ['AttentionDiversificationLoss']
