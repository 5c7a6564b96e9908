"""Self-attention whose logits are scaled by a learned mask of positions (RVT)."""
import torch
from torch import Tensor, nn

from .attention import check_heads
from .listening import attend
from .patch_reasoning import PatchReasoning
from .tokens import merge_heads, split_heads


class PositionAwareAttention(nn.Module):
    """Multi-head self-attention, optionally with RVT's position-aware scaling.

    The scaled logits are multiplied by ``sigmoid(att_mask)`` before the softmax ("Towards Robust
    Vision Transformer", CVPR 2022, section 3.3). A mask of T positions serves any N <= T tokens:
    its first N rows and columns are used.

    Args:
        dim (int): Width C of the tokens.
        num_heads (int): Number of heads; divides C.
        qkv_bias (bool): Whether queries, keys and values have biases. Defaults to True.
        mask_tokens (int): Number T of positions that the mask knows; 0 for plain attention.
            Defaults to 0.
        patch_reasoning (bool): Compute queries, keys and values by :class:`PatchReasoning`.
            Defaults to False.
    """

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool = True, mask_tokens: int = 0,
                 patch_reasoning: bool = False):
        super().__init__()
        check_heads(dim, num_heads)
        self.num_heads = num_heads
        if patch_reasoning:
            self.patch_reasoning = PatchReasoning(dim)
        else:
            self.patch_reasoning = None
            self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        if mask_tokens:
            self.att_mask = nn.Parameter(torch.empty(num_heads, mask_tokens, mask_tokens))
            nn.init.trunc_normal_(self.att_mask, std=.02)
        else:
            self.att_mask = None

    def logit_mask(self, num_tokens: int) -> Tensor | None:
        """Factor (h, N, N) of the logits, if there is one.

        Raises:
            ValueError: If there are more tokens than the mask knows positions.
        """
        if self.att_mask is None:
            return None
        known = self.att_mask.shape[-1]
        if num_tokens > known:
            raise ValueError(
                f'{num_tokens} tokens are more than the {known} that the position mask of RVT '
                'was made for: use smaller images, a model with masked_blocks=0 (no "plus"), or '
                f'train one with mask_tokens={num_tokens}')
        return self.att_mask[:, :num_tokens, :num_tokens].sigmoid()

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        """(B, H * W, C) to (B, H * W, C)."""
        mask = self.logit_mask(x.shape[1])
        qkv = self.qkv(x) if self.patch_reasoning is None else self.patch_reasoning(x, hw)
        q, k, v = (split_heads(t, self.num_heads) for t in qkv.chunk(3, dim=-1))
        return self.proj(merge_heads(attend(q, k, v, logit_mask=mask)))
