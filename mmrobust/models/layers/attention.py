"""Self-attention over tokens, and FAN's class attention."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .listening import attend
from .patch_reasoning import PatchReasoning
from .tokens import merge_heads, split_heads


def check_heads(dim: int, num_heads: int) -> None:
    """Raise ValueError unless ``num_heads`` divides ``dim``."""
    if num_heads < 1 or dim % num_heads:
        raise ValueError(f'num_heads={num_heads} does not divide the width {dim}: '
                         f'choose a divisor of {dim}')


class SelfAttention(nn.Module):
    """Multi-head self-attention of FAN's token mixing.

    It computes its output with :func:`~mmrobust.models.layers.listening.attend`, so that an
    attention diversification loss can listen.

    Args:
        dim (int): Width C of the tokens.
        num_heads (int): Number of heads; divides C.
        qkv_bias (bool): Whether queries, keys and values have biases. Defaults to True.
        patch_reasoning (bool): Compute queries, keys and values by :class:`PatchReasoning`.
            Defaults to False.
    """

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool = True,
                 patch_reasoning: bool = False):
        super().__init__()
        check_heads(dim, num_heads)
        self.num_heads = num_heads
        if patch_reasoning:
            self.patch_reasoning = PatchReasoning(dim)
        else:
            self.patch_reasoning = None
            self.q = nn.Linear(dim, dim, bias=qkv_bias)
            self.kv = nn.Linear(dim, 2 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        """(B, H * W, C) to (B, H * W, C)."""
        if self.patch_reasoning is None:
            q, (k, v) = self.q(x), self.kv(x).chunk(2, dim=-1)
        else:
            q, k, v = self.patch_reasoning(x, hw).chunk(3, dim=-1)
        q, k, v = (split_heads(t, self.num_heads) for t in (q, k, v))
        return self.proj(merge_heads(attend(q, k, v)))


class ClassAttention(nn.Module):
    """Attention whose only query is the class token (CaiT, as used by FAN).

    Args:
        dim (int): Width C of the tokens.
        num_heads (int): Number of heads; divides C.
        qkv_bias (bool): Whether queries, keys and values have biases. Defaults to True.
    """

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool = True):
        super().__init__()
        check_heads(dim, num_heads)
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim, bias=qkv_bias)
        self.k = nn.Linear(dim, dim, bias=qkv_bias)
        self.v = nn.Linear(dim, dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, 1 + N, C), class token first, to the new class token (B, 1, C)."""
        q, k, v = (split_heads(t, self.num_heads)
                   for t in (self.q(x[:, :1]), self.k(x), self.v(x)))
        return self.proj(merge_heads(F.scaled_dot_product_attention(q, k, v)))


class ClassAttentionBlock(nn.Module):
    """Class attention with the residual scheme that FAN ships.

    Patch tokens take part as keys and values and are only normalised and rescaled:
    ``x + gamma1 * LN1(x)``, then twice ``LN2`` of that. The second residual adds to the
    *normalised* tokens; both follow the published weights rather than the textbook.

    Args:
        dim (int): Width C of the tokens.
        num_heads (int): Number of heads; divides C.
        mlp_ratio (float): Hidden width of the MLP over C. Defaults to 4.
        qkv_bias (bool): Whether queries, keys and values have biases. Defaults to True.
        layer_scale (float): Initial value of both residual scales. Defaults to 1.
    """

    # what the patch tokens never depend on
    CLASS_ONLY = ('attn.', 'mlp.', 'gamma2')

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4., qkv_bias: bool = True,
                 layer_scale: float = 1.):
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.gamma1 = nn.Parameter(torch.full((dim,), layer_scale))
        self.gamma2 = nn.Parameter(torch.full((dim,), layer_scale))
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = ClassAttention(dim, num_heads, qkv_bias)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential()
        self.mlp.add_module('fc1', nn.Linear(dim, hidden))
        self.mlp.add_module('act', nn.GELU())
        self.mlp.add_module('fc2', nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1 + N, C) to (B, 1 + N, C), class token first."""
        normed = self.norm1(x)
        mixed = torch.cat([self.attn(normed), normed[:, 1:]], dim=1)
        x = self.norm2(torch.addcmul(x, self.gamma1, mixed))
        cls_token, patches = x[:, :1], x[:, 1:]
        cls_token = torch.addcmul(cls_token, self.gamma2, self.mlp(cls_token))
        return torch.cat([cls_token, 2 * patches], dim=1)

    def forward_patches(self, x: Tensor) -> Tensor:
        """The patch part (B, N, C) of :meth:`forward`, which needs no class token."""
        return 2 * self.norm2(torch.addcmul(x, self.gamma1, self.norm1(x)))
