"""RVT, the robust vision transformer, with optional token-aware average pooling.

"Towards Robust Vision Transformer" (CVPR 2022) and "Robustifying Token Attention for Vision
Transformers" (ICCV 2023). Differences from the authors' code: the true token grid at any aspect
ratio, a position mask that serves fewer tokens than it was trained for, any batch size, and the
kind of feed-forward network and the number of masked blocks as options, since the published
figures of RVT-B belong to another choice of them than the published code makes.
"""
from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmrobust.models.layers import SelfAttention, TokenAwareAvgPooling, checkpoint
from mmrobust.models.layers.token_backbone import TokenBackbone
from mmrobust.models.layers.tokens import to_map, to_tokens


class ConvFFN(nn.Module):
    """Feed-forward network with a depthwise convolution and batch normalisation throughout (RVT).

    1x1 convolution, BN, GELU, depthwise 3x3 convolution, BN, GELU, 1x1 convolution, BN.

    Args:
        dim (int): Width C of the tokens.
        hidden_dim (int): Hidden width.
    """

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden_dim, 1)
        self.bn1 = nn.BatchNorm2d(hidden_dim)
        self.dwconv = nn.Conv2d(hidden_dim, hidden_dim, 3, padding=1, groups=hidden_dim)
        self.bn2 = nn.BatchNorm2d(hidden_dim)
        self.fc2 = nn.Conv2d(hidden_dim, dim, 1)
        self.bn3 = nn.BatchNorm2d(dim)
        self.act = nn.GELU()

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        """(B, H * W, C) to (B, H * W, C)."""
        x = self.act(self.bn1(self.fc1(to_map(x, hw))))
        x = self.act(self.bn2(self.dwconv(x)))
        return to_tokens(self.bn3(self.fc2(x)))


class FFN(nn.Module):
    """Linear, GELU, linear.

    Args:
        dim (int): Width C of the tokens.
        hidden_dim (int): Hidden width.
    """

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        """(B, H * W, C) to (B, H * W, C); the grid does not matter."""
        return self.fc2(F.gelu(self.fc1(x)))


MLPS = {'conv': ConvFFN, 'linear': FFN}


class RVTBlock(nn.Module):
    """``x + Attn(LN(TAP(x)))``, then ``y + MLP(LN(y))``.

    Args:
        dim (int): Width C of the tokens.
        num_heads (int): Number of heads; divides C.
        mlp (str): ``'conv'`` or ``'linear'``. Defaults to ``'conv'``.
        mlp_ratio (float): Hidden width over C. Defaults to 4.
        qkv_bias (bool): Whether queries, keys and values have biases. Defaults to True.
        drop_path_rate (float): Rate of both residual branches. Defaults to 0.
        mask_tokens (int): See :class:`SelfAttention`. Defaults to 0.
        tap (dict, optional): Arguments of :class:`TokenAwareAvgPooling`; ``None`` for a plain
            block. Defaults to None.
        patch_reasoning (bool): See :class:`SelfAttention`. Defaults to False.
    """

    def __init__(self, dim: int, num_heads: int, mlp: str = 'conv', mlp_ratio: float = 4.,
                 qkv_bias: bool = True, drop_path_rate: float = 0., mask_tokens: int = 0,
                 tap: dict | None = None, patch_reasoning: bool = False):
        super().__init__()
        self.tap = TokenAwareAvgPooling(dim, **tap) if tap is not None else None
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = SelfAttention(dim, num_heads, qkv_bias, patch_reasoning, mask_tokens,
                                  projections=('qkv',))
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = MLPS[mlp](dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate > 0 else nn.Identity()

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        """(B, H * W, C) to (B, H * W, C)."""
        pooled = x if self.tap is None else to_tokens(self.tap(to_map(x, hw)))
        x = x + self.drop_path(self.attn(self.norm1(pooled), hw))
        return x + self.drop_path(self.mlp(self.norm2(x), hw))


class PoolingPatchEmbed(nn.Module):
    """Strided 7x7 convolution, batch normalisation, max pooling and a patch convolution.

    Args:
        in_channels (int): Channels of the image.
        dim (int): Width C of the tokens.
        patch_size (int): Total stride: 4, 8 or 16. Defaults to 16.
    """

    def __init__(self, in_channels: int, dim: int, patch_size: int = 16):
        super().__init__()
        if patch_size not in (4, 8, 16):
            raise ValueError(f'patch_size={patch_size}: the patch embedding of RVT has a stride '
                             'of 4, 8 or 16')
        self.stride = patch_size
        step = patch_size // 4
        self.proj = nn.Sequential(
            nn.Conv2d(in_channels, 32, 7, stride=2, padding=2),
            nn.BatchNorm2d(32),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.Conv2d(32, dim, step, stride=step))

    def forward(self, x: Tensor) -> Tensor:
        """Image (B, 3, H, W) to the token map (B, C, H / stride, W / stride)."""
        return self.proj(x)


class TokenPooling(nn.Module):
    """Halves the token grid and widens the tokens by a grouped convolution; odd sides round up.

    Args:
        in_dim (int): Width of the incoming tokens.
        dim (int): Width of the outgoing tokens, a multiple of ``in_dim``.
    """

    def __init__(self, in_dim: int, dim: int):
        super().__init__()
        self.conv = nn.Conv2d(in_dim, dim, 3, stride=2, padding=1, groups=in_dim)

    def forward(self, x: Tensor, hw: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
        """Tokens and grid to tokens and grid."""
        x = self.conv(to_map(x, hw))
        return to_tokens(x).contiguous(), tuple(x.shape[-2:])


_TINY = dict(embed_dims=(192, 384), depths=(10, 2), num_heads=(6, 12))
_SMALL = dict(embed_dims=(384,), depths=(12,), num_heads=(6,))
_BASE = dict(embed_dims=(768,), depths=(12,), num_heads=(12,), mlp='linear')


@MODELS.register_module(force=True)
class RVT(TokenBackbone):
    """Robust vision transformer for classification and dense prediction.

    Args:
        arch (str | dict): ``'tiny'``, ``'small'``, ``'base'``, the same with ``'_plus'`` (with
            position-aware attention scaling), or a dict with ``embed_dims``, ``depths`` and
            ``num_heads`` (one entry per stage) and, optionally, ``mlp``, ``masked_blocks`` and
            ``patch_size`` (4, 8 or 16; default 16). The strings build what the RVT repository
            builds. Defaults to ``'small'``.
        tap (dict, optional): ``dict(num_branches=4)`` puts token-aware average pooling in front
            of every self-attention; see :class:`TokenAwareAvgPooling` for its options.
            ``None`` is the plain model. Defaults to None.
        mlp (str, optional): ``'conv'`` or ``'linear'``. By default the architecture's:
            ``'linear'`` in base, else ``'conv'``. The TAP repository builds base with ``'conv'``.
        masked_blocks (int, optional): How many of the first blocks have a position mask.
            By default the architecture's: 10, 5, 5 in the plus versions, else 0. The published
            parameter counts of RVT-B* (91.8M, with TAP 92.1M) are those of
            ``arch='base_plus', masked_blocks=12``.
        mask_tokens (int): Positions that a mask knows. Defaults to 196, a 224 x 224 image.
        patch_reasoning (bool): Compute queries, keys and values by convolutions, as the released
            tiny and base models of AFAT do. Defaults to False.
        out_type (str): ``'featmap'`` returns maps, ``'avg_featmap'`` the normalised mean of the
            last tokens (B, C) for a linear classification head. Defaults to ``'featmap'``.
        out_indices (Sequence[int]): Blocks, counted over all stages, whose tokens are returned
            as maps; negative ones count from the end. Defaults to (-1,).
        in_channels (int): Channels of the image. Defaults to 3.
        mlp_ratio (float): Hidden width over the width of the tokens. Defaults to 4.
        qkv_bias (bool): Whether queries, keys and values have biases. Defaults to True.
        drop_path_rate (float): Grows linearly from 0 in the first block; n blocks stop at
            (n - 1) / n of it. Defaults to 0.
        frozen_stages (int): -1 freezes nothing, 0 the patch embedding, k the first k blocks
            too. Defaults to -1.
        with_cp (bool): Whether to recompute activations in backward. Defaults to False.
        init_cfg (dict, optional): MMEngine initialisation, e.g. ``Pretrained``.
            Defaults to None.
    """

    out_types = 'featmap', 'avg_featmap'
    arch_zoo = {
        'tiny': _TINY,
        'small': _SMALL,
        'base': _BASE,
        'tiny_plus': dict(_TINY, masked_blocks=10),
        'small_plus': dict(_SMALL, masked_blocks=5),
        'base_plus': dict(_BASE, masked_blocks=5),
    }

    def __init__(self,
                 arch: str | dict = 'small',
                 tap: dict | None = None,
                 mlp: str | None = None,
                 masked_blocks: int | None = None,
                 mask_tokens: int = 196,
                 patch_reasoning: bool = False,
                 out_type: str = 'featmap',
                 out_indices: Sequence[int] = (-1,),
                 in_channels: int = 3,
                 mlp_ratio: float = 4.,
                 qkv_bias: bool = True,
                 drop_path_rate: float = 0.,
                 frozen_stages: int = -1,
                 with_cp: bool = False,
                 init_cfg: dict | None = None):
        super().__init__(init_cfg)
        arch = self._parse_arch(arch)
        mlp = arch['mlp'] if mlp is None else mlp
        masked_blocks = arch['masked_blocks'] if masked_blocks is None else masked_blocks
        depths, widths, heads = arch['depths'], arch['embed_dims'], arch['num_heads']
        num_blocks = sum(depths)
        if mlp not in MLPS:
            raise ValueError(f"mlp='{mlp}': choose 'conv' or 'linear'")
        if not 0 <= masked_blocks <= depths[0]:
            raise ValueError(f'masked_blocks={masked_blocks} is outside 0 ... {depths[0]}, the '
                             'number of blocks of the first stage')
        self._check_options(out_type, drop_path_rate, frozen_stages, num_blocks)
        if bad := [i for i in out_indices if not -num_blocks <= i < num_blocks]:
            raise ValueError(f'out_indices {bad} are outside {-num_blocks} ... {num_blocks - 1}: '
                             'blocks are counted from 0 over all stages')
        self.out_type = out_type
        self.out_indices = tuple(i % num_blocks for i in out_indices)
        self.frozen_stages = frozen_stages
        self.with_cp = with_cp

        # blocks whose output nothing uses are not built: DDP would wait for their gradients
        used = num_blocks if out_type == 'avg_featmap' else max(self.out_indices, default=-1) + 1
        self.patch_embed = PoolingPatchEmbed(in_channels, widths[0], arch['patch_size'])
        self.transformers = nn.ModuleList()
        for stage, (depth, width, num_heads) in enumerate(zip(depths, widths, heads, strict=True)):
            first = sum(depths[:stage])
            if first >= used:
                break
            self.transformers.append(nn.ModuleDict(dict(blocks=nn.ModuleList(
                RVTBlock(width, num_heads, mlp, mlp_ratio, qkv_bias,
                         drop_path_rate * (first + i) / num_blocks,
                         mask_tokens if first + i < masked_blocks else 0, tap,
                         patch_reasoning)
                for i in range(min(depth, used - first))))))
        self.pools = nn.ModuleList(
            TokenPooling(*pair) for pair in pairwise(widths[:len(self.transformers)]))
        if out_type == 'avg_featmap':
            self.norm = nn.LayerNorm(widths[-1], eps=1e-6)
        self._freeze()

    @classmethod
    def _parse_arch(cls, arch: str | dict) -> dict:
        needed = 'embed_dims', 'depths', 'num_heads'
        optional = dict(mlp='conv', masked_blocks=0, patch_size=16)
        arch = cls._find_arch(arch, (*needed, *optional))
        cls._check_complete(arch, needed)
        return {**optional, **arch}

    def _frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        blocks = [block for stage in self.transformers for block in stage['blocks']]
        frozen = [self.patch_embed, *blocks[:self.frozen_stages]]
        end = 0
        for stage, pool in zip(self.transformers, self.pools, strict=False):
            end += len(stage['blocks'])
            frozen += [pool] if end <= self.frozen_stages else []
        return frozen

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Image (B, 3, H, W) to maps, or to a tuple of the mean token (B, C).

        Raises:
            ValueError: If the image is smaller than one token, or has more tokens than the
                position mask of a plus version knows.
        """
        self._check_image(x)
        x = self.patch_embed(x)
        hw, x = tuple(x.shape[-2:]), to_tokens(x).contiguous()
        with_cp = self.with_cp and self.training
        outputs, index = {}, 0
        for stage, transformer in enumerate(self.transformers):
            if stage > 0:
                x, hw = self.pools[stage - 1](x, hw)
            for block in transformer['blocks']:
                x = checkpoint(block, x, hw) if with_cp else block(x, hw)
                if self.out_type == 'featmap' and index in self.out_indices:
                    outputs[index] = to_map(x, hw)
                index += 1
        if self.out_type == 'featmap':
            return tuple(outputs[i] for i in self.out_indices)
        return (self.norm(x.mean(dim=1)),)
