"""FAN, the fully attentional network, with optional token-aware average pooling.

"Understanding The Robustness in Vision Transformers" (ICML 2022) and "Robustifying Token
Attention for Vision Transformers" (ICCV 2023). Differences from the authors' code: the true token
grid at any aspect ratio, ordinary layer normalisation in the convolutional stem, checkpointing
that trains, and no class-token arithmetic where only maps are wanted.
"""
import math
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmrobust.models.layers import SelfAttention, TokenAwareAvgPooling, checkpoint
from mmrobust.models.layers.attention import check_heads
from mmrobust.models.layers.token_backbone import TokenBackbone
from mmrobust.models.layers.tokens import merge_heads, split_heads, to_map, to_tokens
from mmrobust.ops import depthwise_conv2d


class FourierPositionEncoding(nn.Module):
    """Sines and cosines of the true grid position, projected to the width of the tokens (XCiT).

    The wavelengths are a buffer, so a checkpoint brings its own: FAN's classification models and
    the papers' segmentation models differ in them. State dicts without it keep the constructed.

    Args:
        dim (int): Width C of the tokens.
        paired_frequencies (bool): Whether a sine and the next cosine share a wavelength, as in
            FAN's classification models. The papers' segmentation models gave every sine and
            every cosine a wavelength of its own. Defaults to True.
        num_frequencies (int): Channels per axis, even. Defaults to 32.
    """

    def __init__(self, dim: int, paired_frequencies: bool = True, num_frequencies: int = 32):
        super().__init__()
        self.token_projection = nn.Conv2d(2 * num_frequencies, dim, kernel_size=1)
        index = torch.arange(num_frequencies, dtype=torch.float32)
        if paired_frequencies:
            index = 2 * torch.div(index, 2, rounding_mode='floor')
        self.register_buffer('wavelengths', 10000 ** (index / num_frequencies))

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        state_dict.setdefault(f'{prefix}wavelengths', self.wavelengths)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def encode_axis(self, length: int) -> Tensor:
        """Encoding (length, num_frequencies) of the positions along one axis, in float32."""
        position = torch.arange(1, length + 1, dtype=torch.float32,
                                device=self.wavelengths.device)
        position = position / (length + 1e-6) * (2 * math.pi)
        phase = position[:, None] / self.wavelengths.float()
        return torch.stack([phase[:, 0::2].sin(), phase[:, 1::2].cos()], dim=2).flatten(1)

    def forward(self, hw: tuple[int, int]) -> Tensor:
        """Encoding (1, C, H, W) of a grid of H x W tokens."""
        height, width = hw
        rows = self.encode_axis(height)[:, None].expand(-1, width, -1)
        columns = self.encode_axis(width)[None].expand(height, -1, -1)
        grid = torch.cat([rows, columns], dim=-1).permute(2, 0, 1)  # (2F, H, W)
        return self.token_projection(grid[None].to(self.token_projection.weight.dtype))


class ConvPatchEmbed(nn.Module):
    """Patch embedding of 3x3 convolutions of stride 2 (XCiT, FAN-ViT).

    Args:
        in_channels (int): Channels of the image.
        dim (int): Width C of the tokens.
        patch_size (int): Total stride: 4, 8 or 16.
    """

    def __init__(self, in_channels: int, dim: int, patch_size: int = 16):
        super().__init__()
        if patch_size not in (4, 8, 16):
            raise ValueError(f'patch_size={patch_size}: the convolutional patch embedding '
                             'has a stride of 4, 8 or 16')
        self.stride = patch_size
        depth = int(math.log2(patch_size))
        widths = [in_channels] + [dim // 2 ** (depth - 1 - i) for i in range(depth)]
        layers = []
        for i in range(depth):
            layers += [nn.Sequential(
                nn.Conv2d(widths[i], widths[i + 1], 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(widths[i + 1])), nn.GELU()]
        self.proj = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Image to the token map (B, C, H, W) and no intermediate maps."""
        return self.proj(x), []


class ChannelLayerNorm(nn.LayerNorm):
    """Layer normalisation over the channels of a map (B, C, H, W), returned channels-last."""

    def __init__(self, dim: int):
        super().__init__(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias,
                         self.eps)
        return x.permute(0, 3, 1, 2)


class DepthwiseConv2d(nn.Conv2d):
    """One square kernel for each channel, whose gradient is fast on the CPU."""

    def __init__(self, dim: int, kernel_size: int):
        super().__init__(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        return depthwise_conv2d(x, self.weight, self.bias)


class PointwiseConv2d(nn.Conv2d):
    """A 1x1 convolution, computed as the linear layer that it is on channels-last maps."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias)
        return x.permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7 convolution, channel norm and MLP, with a scaled residual."""

    def __init__(self, dim: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), 1e-6))
        self.conv_dw = DepthwiseConv2d(dim, 7)
        self.norm = ChannelLayerNorm(dim)
        self.mlp = nn.Sequential(OrderedDict(
            fc1=PointwiseConv2d(dim, 4 * dim, 1), act=nn.GELU(),
            fc2=PointwiseConv2d(4 * dim, dim, 1)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        return torch.addcmul(x, self.gamma[:, None, None], self.mlp(self.norm(self.conv_dw(x))))


class ConvNeXtStage(nn.Module):
    """An optional halving of the resolution, then blocks."""

    def __init__(self, in_dim: int, dim: int, depth: int, downsample: bool):
        super().__init__()
        self.downsample = nn.Sequential(
            ChannelLayerNorm(in_dim), nn.Conv2d(in_dim, dim, 2, stride=2)
        ) if downsample else nn.Identity()
        self.blocks = nn.ModuleList(ConvNeXtBlock(dim) for _ in range(depth))

    def forward(self, x: Tensor, with_cp: bool) -> Tensor:
        x = self.downsample(x)
        for block in self.blocks:
            x = checkpoint(block, x) if with_cp else block(x)
        return x


class ConvNeXtStem(nn.Module):
    """Stem of stride 4 and stages of strides 4, 8, ...

    Args:
        in_channels (int): Channels of the image.
        depths (Sequence[int]): Blocks per stage.
        widths (Sequence[int]): Width per stage.
        with_cp (bool): Whether to checkpoint the blocks. Defaults to False.
    """

    def __init__(self, in_channels: int, depths: Sequence[int], widths: Sequence[int],
                 with_cp: bool = False):
        super().__init__()
        self.with_cp = with_cp
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, widths[0], 4, stride=4), ChannelLayerNorm(widths[0]))
        self.stages = nn.ModuleList(
            ConvNeXtStage(widths[max(i - 1, 0)], width, depth, downsample=i > 0)
            for i, (depth, width) in enumerate(zip(depths, widths, strict=True)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Image to one map per stage."""
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x, self.with_cp and self.training)
            maps.append(x)
        return maps


class HybridEmbed(nn.Module):
    """A :class:`ConvNeXtStem` and a strided convolution: total stride 16 (FAN-Hybrid)."""

    stride = 16

    def __init__(self, in_channels: int, dim: int, depths=(3, 3), widths=(128, 256),
                 with_cp: bool = False):
        super().__init__()
        self.backbone = ConvNeXtStem(in_channels, depths, widths, with_cp)
        self.proj = nn.Conv2d(widths[-1], dim, kernel_size=2, stride=2)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Image to the token map (B, C, H, W) and the maps of strides 4 and 8."""
        maps = self.backbone(x)
        return self.proj(maps[-1]), maps


class DepthwiseMixing(nn.Sequential):
    """Depthwise 3x3 convolution, GELU, batch normalisation, depthwise 3x3 convolution."""

    def __init__(self, dim: int):
        super().__init__(OrderedDict(
            conv1=nn.Conv2d(dim, dim, 3, padding=1, groups=dim), act=nn.GELU(),
            bn=nn.BatchNorm2d(dim), conv2=nn.Conv2d(dim, dim, 3, padding=1, groups=dim)))


class ConvMLP(nn.Module):
    """MLP whose non-linearity is a scaled residual depthwise mixing of the hidden map."""

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.dwconv = DepthwiseMixing(hidden_dim)
        self.gamma = nn.Parameter(torch.ones(hidden_dim))
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        """(B, H * W, C) to (B, H * W, C)."""
        hidden = self.fc1(x)
        mixed = to_tokens(self.dwconv(to_map(hidden, hw)))
        return self.fc2(torch.addcmul(hidden, self.gamma.to(mixed.dtype), mixed))


class ChannelProcessing(nn.Module):
    """Gates every channel by its affinity with where the tokens of its head are strong (FAN).

    Args:
        dim (int): Width C of the tokens.
        num_heads (int): Number of heads; divides C.
        mlp_ratio (float): Hidden width of the convolutional MLP over C. Defaults to 4.
    """

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4.):
        super().__init__()
        check_heads(dim, num_heads)
        self.num_heads = num_heads
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.mlp_v = ConvMLP(dim, int(dim * mlp_ratio))
        self.norm_v = nn.LayerNorm(dim, eps=1e-6)
        self.q = nn.Linear(dim, dim)

    def gate(self, x: Tensor) -> Tensor:
        """The factor (B, 1, C) of each channel of normalised tokens (B, N, C)."""
        # (B, N, h, c): queries and keys are distributions over the tokens
        queries = self.q(x).softmax(dim=1).unflatten(-1, (self.num_heads, -1))
        keys = x.softmax(dim=1).unflatten(-1, (self.num_heads, -1)).mean(-1, keepdim=True)
        affinity = (queries * keys).sum(1)  # (B, h, c); faster than as a product of matrices
        gate = affinity.sigmoid() * self.temperature.squeeze(-1)  # (B, h, c)
        return gate.flatten(1).unsqueeze(1)

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        """(B, H * W, C) to (B, H * W, C)."""
        return self.gate(x) * self.norm_v(self.mlp_v(x, hw))


class FANBlock(nn.Module):
    """Token mixing and channel processing: ``x + g1 * Attn(LN(TAP(x)))``, ``y + g2 * CP(LN(y))``.

    Args:
        dim (int): Width C of the tokens.
        num_heads (int): Number of heads; divides C.
        mlp_ratio, qkv_bias, drop_path_rate, layer_scale, tap, patch_reasoning: See :class:`FAN`;
            the drop path is of both residual branches, the scale that of g1 and g2.
    """

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4., qkv_bias: bool = True,
                 drop_path_rate: float = 0., layer_scale: float = 1., tap: dict | None = None,
                 patch_reasoning: bool = False):
        super().__init__()
        self.gamma1 = nn.Parameter(torch.full((dim,), layer_scale))
        self.gamma2 = nn.Parameter(torch.full((dim,), layer_scale))
        self.tap = TokenAwareAvgPooling(dim, **tap) if tap is not None else None
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = SelfAttention(dim, num_heads, qkv_bias, patch_reasoning)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = ChannelProcessing(dim, num_heads, mlp_ratio)
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate > 0 else nn.Identity()

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        """(B, H * W, C) to (B, H * W, C)."""
        pooled = x if self.tap is None else to_tokens(self.tap(to_map(x, hw)))
        x = x + self.drop_path(self.gamma1 * self.attn(self.norm1(pooled), hw))
        return x + self.drop_path(self.gamma2 * self.mlp(self.norm2(x), hw))


class TokenDownsample(nn.Module):
    """Halves the token grid and changes the width; odd sides round up."""

    def __init__(self, in_dim: int, dim: int):
        super().__init__()
        self.proj = nn.Conv2d(in_dim, dim, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, hw: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
        """Tokens and grid to tokens and grid."""
        x = self.proj(to_map(x, hw))
        return self.norm(to_tokens(x)), tuple(x.shape[-2:])


class ClassAttention(nn.Module):
    """Attention whose only query is the class token (CaiT, as used by FAN)."""

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
        mlp_ratio, qkv_bias, layer_scale: See :class:`FAN`.
    """

    mixes_tokens = False  # only the class token learns of the others
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
        self.mlp = nn.Sequential(OrderedDict(
            fc1=nn.Linear(dim, hidden), act=nn.GELU(), fc2=nn.Linear(hidden, dim)))

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


def _hybrid(depths, embed_dims, num_heads, stem_depths=(3, 3), out_indices=None):
    return dict(patch_embed='hybrid', stem_depths=stem_depths, depths=depths,
                embed_dims=embed_dims, num_heads=num_heads, out_indices=out_indices)


def _vit(depth, embed_dim, num_heads, out_indices):
    return dict(patch_embed='conv', patch_size=16, depths=(depth,), embed_dims=(embed_dim,),
                num_heads=(num_heads,), out_indices=out_indices)


@MODELS.register_module(force=True)
class FAN(TokenBackbone):
    """Fully attentional network for classification and dense prediction.

    Args:
        arch (str | dict): ``'{tiny,small,base,large,xlarge}_hybrid'``, ``'{tiny,small,base,
            large}_vit'``, or a dict with ``embed_dims``, ``depths``, ``num_heads`` (one entry
            per stage of equal width), ``patch_embed`` (``'hybrid'`` with ``stem_depths`` and
            optional ``stem_dims``, or ``'conv'`` with ``patch_size``) and optional
            ``out_indices``. Defaults to ``'base_hybrid'``.
        tap (dict, optional): ``dict(num_branches=4)`` puts token-aware average pooling in front
            of every self-attention; see :class:`TokenAwareAvgPooling` for its options.
            ``None`` is the plain model. Defaults to None.
        patch_reasoning (bool): Compute queries, keys and values by convolutions, as AFAT's
            variant does. Defaults to False.
        out_type (str): ``'featmap'`` returns maps for dense prediction, ``'cls_token'`` the
            normalised class token (B, C) for a linear classification head.
            Defaults to ``'featmap'``.
        out_indices (Sequence[int], optional): Blocks, counted from 0, whose tokens are returned
            as maps; -1 is the output of the class-attention blocks. The maps of the
            convolutional stem (strides 4 and 8) of hybrids always come first. By default, what
            the published segmentation models used.
        in_channels (int): Channels of the image. Defaults to 3.
        mlp_ratio (float): Hidden width over the width of the tokens. Defaults to 4.
        qkv_bias (bool): Whether queries, keys and values have biases. Defaults to True.
        drop_path_rate (float): The same in every block, as published. Defaults to 0.
        layer_scale (float): Initial scale of the residual branches. Defaults to 1.
        num_class_attention (int): Number of class-attention blocks. Defaults to 2.
        paired_frequencies (bool): See :class:`FourierPositionEncoding`. Classification
            checkpoints expect True, the papers' segmentation checkpoints False.
            Defaults to True.
        frozen_stages (int): -1 freezes nothing, 0 the patch embedding and positional encoding,
            k the first k blocks too. Defaults to -1.
        with_cp (bool): Whether to recompute activations in backward. Defaults to False.
        init_cfg (dict, optional): MMEngine initialisation, e.g. ``Pretrained``.
            Defaults to None.
    """

    out_types = 'featmap', 'cls_token'
    arch_zoo = {
        'tiny_hybrid': _hybrid((8,), (192,), (8,), out_indices=(7, -1)),
        'small_hybrid': _hybrid((10,), (384,), (8,), out_indices=(9, -1)),
        'base_hybrid': _hybrid((16,), (448,), (8,), out_indices=(15, -1)),
        'large_hybrid': _hybrid((22,), (480,), (10,), (3, 5), out_indices=(18, -1)),
        'xlarge_hybrid': _hybrid((20, 3), (528, 768), (11, 16), (3, 7), out_indices=(19, -1)),
        'tiny_vit': _vit(12, 192, 4, (4, 7, 11, -1)),
        'small_vit': _vit(12, 384, 8, (4, 7, 11, -1)),
        'base_vit': _vit(18, 448, 8, (4, 7, 11, -1)),
        'large_vit': _vit(24, 480, 10, (4, 7, 11, -1)),
    }

    def __init__(self, arch: str | dict = 'base_hybrid', tap: dict | None = None,
                 patch_reasoning: bool = False, out_type: str = 'featmap',
                 out_indices: Sequence[int] | None = None, in_channels: int = 3,
                 mlp_ratio: float = 4., qkv_bias: bool = True, drop_path_rate: float = 0.,
                 layer_scale: float = 1., num_class_attention: int = 2,
                 paired_frequencies: bool = True, frozen_stages: int = -1, with_cp: bool = False,
                 init_cfg: dict | None = None):
        super().__init__(init_cfg)
        arch = self._parse_arch(arch)
        widths, heads = arch['embed_dims'], arch['num_heads']
        num_blocks = sum(arch['depths'])
        self._check_options(out_type, drop_path_rate, frozen_stages, num_blocks)
        self.out_type = out_type
        self.frozen_stages = frozen_stages
        self.with_cp = with_cp
        self.out_indices = self._parse_out_indices(
            out_indices if out_indices is not None else arch.get('out_indices', (-1,)),
            num_blocks)
        # blocks whose output nothing uses are not built: DDP would wait for their gradients
        classify = out_type == 'cls_token' or -1 in self.out_indices
        num_blocks = num_blocks if classify else max(self.out_indices, default=-1) + 1
        block_stage = [stage for stage, depth in enumerate(arch['depths'])
                       for _ in range(depth)][:num_blocks]

        self.cls_token = nn.Parameter(torch.zeros(1, 1, widths[-1]))
        if arch['patch_embed'] == 'hybrid':
            self.patch_embed = HybridEmbed(in_channels, widths[0], arch['stem_depths'],
                                           arch.get('stem_dims', (128, 256)), with_cp)
        else:
            self.patch_embed = ConvPatchEmbed(in_channels, widths[0], arch['patch_size'])
        self.pos_embed = FourierPositionEncoding(widths[0], paired_frequencies)
        self.blocks = nn.ModuleList(
            FANBlock(widths[stage], heads[stage], mlp_ratio, qkv_bias, drop_path_rate, layer_scale,
                     tap, patch_reasoning)
            for stage in block_stage)
        # after which block the width changes
        self.downsamples = nn.ModuleDict({
            str(i): TokenDownsample(widths[stage], widths[stage + 1])
            for i, (stage, following) in enumerate(pairwise(block_stage)) if stage != following})
        self.cls_attn_blocks = nn.ModuleList(
            ClassAttentionBlock(widths[-1], heads[-1], mlp_ratio, qkv_bias, layer_scale)
            for _ in range(num_class_attention if classify else 0))
        if out_type == 'cls_token':
            self.norm = nn.LayerNorm(widths[-1], eps=1e-6)
        self._initialize()
        self._freeze()

    @classmethod
    def _parse_arch(cls, arch: str | dict) -> dict:
        arch = {'patch_embed': 'hybrid', **cls._find_arch(arch, (
            'embed_dims', 'depths', 'num_heads', 'patch_embed', 'stem_depths', 'stem_dims',
            'patch_size', 'out_indices'))}
        cls._check_complete(arch, (
            'embed_dims', 'depths', 'num_heads',
            'stem_depths' if arch['patch_embed'] == 'hybrid' else 'patch_size'))
        if len({len(arch[key]) for key in ('embed_dims', 'depths', 'num_heads')}) > 1:
            raise ValueError('embed_dims, depths and num_heads of the FAN arch dict differ in '
                             'length: each has one entry per stage')
        return arch

    @staticmethod
    def _parse_out_indices(out_indices: Sequence[int], num_blocks: int) -> tuple[int, ...]:
        if bad := [i for i in out_indices if not -1 <= i < num_blocks]:
            raise ValueError(f'out_indices {bad} are outside -1 ... {num_blocks - 1}: blocks are '
                             'counted from 0, -1 is the output of the class attention')
        return tuple(out_indices)

    def _initialize(self) -> None:
        """Initial weights of the published code; the stem initialises itself."""
        nn.init.trunc_normal_(self.cls_token, std=.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        convolutions = [m for part in (*(b.mlp for b in self.blocks), self.downsamples)
                        for m in part.modules() if isinstance(m, nn.Conv2d)]
        for conv in convolutions:
            fan_out = conv.kernel_size[0] * conv.kernel_size[1] * conv.out_channels // conv.groups
            nn.init.normal_(conv.weight, std=(2. / fan_out) ** .5)
            nn.init.zeros_(conv.bias)

    def _freeze(self) -> None:
        if self.out_type == 'featmap':
            # maps do not depend on these; left trainable, DDP would wait for their gradients
            self.cls_token.requires_grad_(False)
            for name, parameter in self.cls_attn_blocks.named_parameters():
                if name.split('.', 1)[1].startswith(ClassAttentionBlock.CLASS_ONLY):
                    parameter.requires_grad_(False)
        super()._freeze()

    def _frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        frozen = [self.patch_embed, self.pos_embed, *self.blocks[:self.frozen_stages]]
        return frozen + [down for i, down in self.downsamples.items()
                         if int(i) < self.frozen_stages]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Image (B, 3, H, W) to maps, or to a tuple of the class token (B, C).

        Raises:
            ValueError: If the image is smaller than one token.
        """
        self._check_image(x)
        x, maps = self.patch_embed(x)
        x = x + self.pos_embed(tuple(x.shape[-2:]))
        hw, x = tuple(x.shape[-2:]), to_tokens(x).contiguous()
        with_cp = self.with_cp and self.training
        for i, block in enumerate(self.blocks):
            x = checkpoint(block, x, hw) if with_cp else block(x, hw)
            if self.out_type == 'featmap' and i in self.out_indices:
                maps.append(to_map(x, hw))
            if str(i) in self.downsamples:
                x, hw = self.downsamples[str(i)](x, hw)

        if self.out_type == 'featmap':
            if -1 in self.out_indices:
                for block in self.cls_attn_blocks:
                    x = block.forward_patches(x)
                maps.append(to_map(x, hw))
            return tuple(maps)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        for block in self.cls_attn_blocks:
            x = block(x)
        return (self.norm(x[:, 0]),)
