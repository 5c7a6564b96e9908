"""Self-attention over the tokens of an image."""
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .listening import attend
from .tokens import merge_heads, split_heads, to_map, to_tokens


def check_heads(dim: int, num_heads: int) -> None:
    """Raise ValueError unless ``num_heads`` divides ``dim``."""
    if num_heads < 1 or dim % num_heads:
        raise ValueError(f'num_heads={num_heads} does not divide the width {dim}: '
                         f'choose a divisor of {dim}')


class PatchReasoning(nn.Sequential):
    """3x3 convolution to a quarter of the width, ReLU, 1x1 convolution to queries, keys, values.

    It takes the place of the linear layers of a self-attention, so that a corrupted patch is read
    together with its neighbours (the released AFAT models).

    Args:
        dim (int): Width C of the tokens, at least 4.
    """

    def __init__(self, dim: int):
        super().__init__(
            nn.Conv2d(dim, dim // 4, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(dim // 4, 3 * dim, 1))

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        """(B, H * W, C) to (B, H * W, 3C)."""
        return to_tokens(super().forward(to_map(x, hw)))


class SelfAttention(nn.Module):
    """Multi-head self-attention, optionally with RVT's position-aware scaling.

    It computes its output with :func:`~mmrobust.models.layers.listening.attend`, so that an
    attention diversification loss can listen.

    With a position mask the scaled logits are multiplied by ``sigmoid(att_mask)`` before the
    softmax ("Towards Robust Vision Transformer", CVPR 2022, section 3.3). A mask of T positions
    serves any N <= T tokens: its first N rows and columns are used.

    Args:
        dim (int): Width C of the tokens.
        num_heads (int): Number of heads; divides C.
        qkv_bias (bool): Whether queries, keys and values have biases. Defaults to True.
        patch_reasoning (bool): Compute queries, keys and values by :class:`PatchReasoning`.
            Defaults to False.
        mask_tokens (int): Number T of positions that the mask knows; 0 for plain attention.
            Defaults to 0.
        projections (Sequence[str]): Names of the linear layers in the published checkpoints,
            which also say what each computes: ``('q', 'kv')`` in FAN, ``('qkv',)`` in RVT.
            Defaults to the former.
    """

    reports_attention = True

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool = True,
                 patch_reasoning: bool = False, mask_tokens: int = 0,
                 projections: Sequence[str] = ('q', 'kv')):
        super().__init__()
        check_heads(dim, num_heads)
        self.num_heads = num_heads
        self.projections = tuple(projections)
        if patch_reasoning:
            self.patch_reasoning = PatchReasoning(dim)
        else:
            self.patch_reasoning = None
            for name in projections:
                self.add_module(name, nn.Linear(dim, len(name) * dim, bias=qkv_bias))
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
        if self.patch_reasoning is None:
            parts = [part for name in self.projections
                     for part in getattr(self, name)(x).chunk(len(name), dim=-1)]
        else:
            parts = self.patch_reasoning(x, hw).chunk(3, dim=-1)
        q, k, v = (split_heads(part, self.num_heads) for part in parts)
        return self.proj(merge_heads(attend(q, k, v, logit_mask=mask, layer=self)))
