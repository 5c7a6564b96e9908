"""DINOv2 and DINOv3, vision transformers with registers, with optional token-aware average pooling.

"DINOv2: Learning Robust Visual Features without Supervision" (TMLR 2024), "Vision Transformers Need
Registers" (ICLR 2024) and "DINOv3" (2025). Parts are named as in the original checkpoints, except
that gated networks always have separate ``w1`` and ``w2`` and registers are ``register_tokens`` in
both. What only pretraining uses (mask token, norm of local crops) is left out.
"""
import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmrobust.models.layers import TokenAwareAvgPooling, attend, checkpoint
from mmrobust.models.layers.attention import check_heads
from mmrobust.models.layers.host_block import pool_patches
from mmrobust.models.layers.token_backbone import TokenBackbone
from mmrobust.models.layers.tokens import merge_heads, split_heads, to_map, to_tokens
from mmrobust.utils.rotary import rope_base as base_of
from mmrobust.utils.rotary import rope_periods

AUGMENTATIONS = ('shift', 'jitter', 'rescale')
Rope = tuple[Tensor, Tensor]


class RotaryEmbedding(nn.Module):
    """Angles that turn queries and keys of patches according to their places (DINOv3).

    Places are centres of patches, from -1 to 1 along each side whatever the image's size; half of
    the angles belong to the rows, half to the columns. In training all places of a batch are
    shifted, stretched along each axis, and scaled at random.

    Args:
        head_dim (int): Width of a head, a multiple of 4.
        base (float): The longest period over the shortest, nearly. Defaults to 100.
        augmentation (dict, optional): ``shift`` (in places, uniform in [-shift, shift]),
            ``jitter`` and ``rescale`` (factors, log-uniform in [1 / f, f]); those that are left
            out or None do not happen. Defaults to None.

    Raises:
        ValueError: On a width, base or augmentation that cannot be.
    """

    def __init__(self, head_dim: int, base: float = 100., augmentation: dict | None = None):
        super().__init__()
        if head_dim % 4:
            raise ValueError(f'a width of {head_dim} per head is no multiple of 4, which the '
                             'rotary embedding of two axes needs: choose another num_heads')
        if not base > 1:
            raise ValueError(f'rope_base={base}: choose a number above 1; DINOv3 has 100')
        augmentation = {k: v for k, v in (augmentation or {}).items() if v is not None}
        if unknown := augmentation.keys() - set(AUGMENTATIONS):
            raise ValueError(f'rope_augmentation has {", ".join(sorted(unknown))}: known are '
                             f'{", ".join(AUGMENTATIONS)}')
        if bad := [k for k in ('jitter', 'rescale') if augmentation.get(k, 1) < 1]:
            raise ValueError(f'rope_augmentation {bad[0]}={augmentation[bad[0]]}: a factor of at '
                             'least 1')
        self.base = base
        self.augmentation = augmentation
        self.register_buffer('periods', rope_periods(head_dim, base))

    def forward(self, hw: tuple[int, int]) -> Rope:
        """Cosines and sines (H * W, head_dim) of a grid, in float32 or better."""
        # no promote_types: the compiler of torch 2.1 does not follow it
        dtype = torch.float64 if self.periods.dtype == torch.float64 else torch.float32
        sides = [(torch.arange(n, dtype=dtype, device=self.periods.device) + .5) / n * 2 - 1
                 for n in hw]
        places = torch.stack(torch.meshgrid(*sides, indexing='ij'), dim=-1).flatten(0, 1)
        if self.training:
            places = self._augment(places)
        angles = 2 * math.pi * places[:, :, None] / self.periods.to(dtype)  # (H * W, 2, d / 4)
        angles = angles.flatten(1).tile(2)
        return angles.cos(), angles.sin()

    def _augment(self, places: Tensor) -> Tensor:
        def draw(count: int, limit: float) -> Tensor:
            return places.new_empty(1, count).uniform_(-limit, limit)

        if shift := self.augmentation.get('shift'):
            places = places + draw(2, shift)
        if jitter := self.augmentation.get('jitter'):
            places = places * draw(2, math.log(jitter)).exp()
        if rescale := self.augmentation.get('rescale'):
            places = places * draw(1, math.log(rescale)).exp()
        return places

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        # the published periods were rounded to bfloat16; another base is another model
        theirs, ours = state_dict.get(f'{prefix}periods'), self.periods
        if theirs is not None and theirs.shape == ours.shape and not (
                theirs.is_meta or ours.is_meta or torch.allclose(
                    theirs.to(ours), ours, rtol=2 ** -7, atol=0)):
            raise ValueError(
                f'the weights were trained with a rotary embedding of base '
                f'{base_of(theirs):g}, not {self.base:g}: set rope_base={base_of(theirs):g} '
                'in the backbone')
        super()._load_from_state_dict(state_dict, prefix, *args)


def rotate(x: Tensor, rope: Rope) -> Tensor:
    """Turn the last tokens of (B, h, E + N, d), the patches; E others are not turned."""
    cos, sin = rope
    extra, patches = x.split([x.shape[-2] - len(cos), len(cos)], dim=-2)
    first, second = patches.chunk(2, dim=-1)
    turned = patches * cos + torch.cat([-second, first], dim=-1) * sin
    return torch.cat([extra, turned.to(x.dtype)], dim=-2)


class KeyUnbiasedLinear(nn.Linear):
    """Queries, keys and values, where the bias of the keys is masked (DINOv3)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to (B, N, 3C)."""
        q, k, v = self.bias.chunk(3)
        return F.linear(x, self.weight, torch.cat([q, torch.zeros_like(k), v]))


class DINOAttention(nn.Module):
    """Multi-head self-attention over class token, registers and patches.

    Args:
        dim (int): Width C of the tokens.
        num_heads (int): Number of heads; divides C.
        qkv_bias (bool): Whether queries, keys and values have biases. Defaults to True.
        key_bias (bool): Whether keys have one, if any has. Defaults to True.
    """

    reports_attention = True

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool = True, key_bias: bool = True):
        super().__init__()
        check_heads(dim, num_heads)
        self.num_heads = num_heads
        linear = nn.Linear if key_bias or not qkv_bias else KeyUnbiasedLinear
        self.qkv = linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, rope: Rope | None) -> Tensor:
        """(B, E + N, C) to the same shape."""
        q, k, v = (split_heads(part, self.num_heads) for part in self.qkv(x).chunk(3, dim=-1))
        if rope is not None:
            q, k = rotate(q, rope), rotate(k, rope)
        return self.proj(merge_heads(attend(q, k, v, layer=self)))


class MLP(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class SwiGLU(nn.Module):
    """``w3(silu(w1(x)) * w2(x))``."""

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.w1 = nn.Linear(dim, hidden_dim)
        self.w2 = nn.Linear(dim, hidden_dim)
        self.w3 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.w3(F.silu(self.w1(x)) * self.w2(x))


class LayerScale(nn.Module):
    """A learned factor for each channel."""

    def __init__(self, dim: int, value: float):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), float(value)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class DINOBlock(nn.Module):
    """``x + ls1(Attn(LN(TAP(x))))``, then ``y + ls2(MLP(LN(y)))``; TAP pools patches only."""

    def __init__(self, attn: DINOAttention, mlp: nn.Module, dim: int, eps: float,
                 layer_scale: float, drop_path_rate: float, tap: dict | None):
        super().__init__()
        self.tap = TokenAwareAvgPooling(dim, **tap) if tap is not None else None
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = attn
        self.ls1 = LayerScale(dim, layer_scale)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = mlp
        self.ls2 = LayerScale(dim, layer_scale)
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate > 0 else nn.Identity()

    def forward(self, x: Tensor, hw: tuple[int, int], rope: Rope | None) -> Tensor:
        """(B, E + H * W, C) to the same shape."""
        pooled = x if self.tap is None else pool_patches(self.tap, x, hw)
        x = x + self.drop_path(self.ls1(self.attn(self.norm1(pooled), rope)))
        return x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))


def _arch(embed_dims, num_layers, num_heads, feedforward_channels, gated=False, qkv_bias=True):
    return dict(embed_dims=embed_dims, num_layers=num_layers, num_heads=num_heads,
                feedforward_channels=feedforward_channels, gated=gated, qkv_bias=qkv_bias)


class DINOBackbone(TokenBackbone):
    """What DINOv2 and DINOv3 share; see there."""

    out_types = ('featmap', 'cls_token')
    eps: float
    key_bias: bool

    def __init__(self, arch: str | dict, patch_size: int, tap: dict | None, num_registers: int,
                 out_type: str, out_indices: Sequence[int], in_channels: int,
                 drop_path_rate: float, layer_scale: float, qkv_bias: bool | None,
                 frozen_stages: int, tune: str, with_cp: bool, init_cfg: dict | None):
        super().__init__(init_cfg)
        arch = self._parse_arch(arch)
        dim, num_blocks = arch['embed_dims'], arch['num_layers']
        self._check_options(out_type, drop_path_rate, frozen_stages, num_blocks)
        if num_registers < 0:
            raise ValueError(f'num_registers={num_registers}: 0 for none; the published models '
                             'have 4')
        if bad := [i for i in out_indices if not -num_blocks <= i < num_blocks]:
            raise ValueError(f'out_indices {bad} are outside {-num_blocks} ... {num_blocks - 1}: '
                             'blocks are counted from 0')
        if tune not in ('all', 'tap'):
            raise ValueError(f"tune='{tune}': choose 'all' or 'tap'")
        if tune == 'tap' and (tap is None or tap.get('mode') == 'avg_pool'):
            raise ValueError("tune='tap' trains the token-aware pooling alone, and this backbone "
                             'has none to train: give tap=dict(num_branches=4)')
        self.embed_dims, self.num_heads = dim, arch['num_heads']
        self.patch_size = patch_size
        self.num_registers = num_registers
        self.out_type = out_type
        self.out_indices = tuple(i % num_blocks for i in out_indices)
        self.frozen_stages = frozen_stages
        self.tune = tune
        self.with_cp = with_cp

        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.register_tokens = nn.Parameter(
            torch.zeros(1, num_registers, dim)) if num_registers else None
        self.patch_embed = nn.Sequential(OrderedDict(
            proj=nn.Conv2d(in_channels, dim, patch_size, stride=patch_size)))
        # blocks whose output nothing uses are not built: DDP would wait for their gradients
        used = num_blocks if out_type == 'cls_token' else max(self.out_indices, default=-1) + 1
        bias = arch['qkv_bias'] if qkv_bias is None else qkv_bias
        mlp = SwiGLU if arch['gated'] else MLP
        self.blocks = nn.ModuleList(
            DINOBlock(DINOAttention(dim, arch['num_heads'], bias, self.key_bias),
                      mlp(dim, arch['feedforward_channels']), dim, self.eps, layer_scale,
                      drop_path_rate * i / max(num_blocks - 1, 1), tap)
            for i in range(used))
        self.norm = nn.LayerNorm(dim, eps=self.eps)
        self._initialize()

    @classmethod
    def _parse_arch(cls, arch: str | dict) -> dict:
        needed = {'embed_dims', 'num_layers', 'num_heads', 'feedforward_channels'}
        arch = cls._find_arch(arch, needed | {'gated', 'qkv_bias'})
        cls._check_complete(arch, needed)
        return dict(dict(gated=False, qkv_bias=True), **arch)

    def _initialize(self) -> None:
        """Initial weights of the published code."""
        for token in filter(lambda t: t is not None, (self.cls_token, self.register_tokens)):
            nn.init.normal_(token, std=.02)
        for block in self.blocks:
            for module in block.modules():
                if isinstance(module, nn.Linear):
                    nn.init.trunc_normal_(module.weight, std=.02)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)

    def _freeze(self) -> None:
        if self.frozen_stages >= 0 or self.tune == 'tap':
            for token in (self.cls_token, self.register_tokens, getattr(self, 'pos_embed', None)):
                if token is not None:
                    token.requires_grad_(False)
        for module in self._frozen_modules():
            module.requires_grad_(False)
        for pooling in self._tuned_poolings():
            pooling.requires_grad_(True)

    def _frozen_modules(self) -> list[nn.Module]:
        frozen = max(self.frozen_stages, len(self.blocks) if self.tune == 'tap' else -1)
        if frozen < 0:
            return []
        rope = getattr(self, 'rope_embed', None)
        return [self.patch_embed, *([rope] if rope is not None else []), *self.blocks[:frozen],
                *([self.norm] if frozen >= len(self.blocks) else [])]

    def _tuned_poolings(self) -> list[nn.Module]:
        if self.tune != 'tap':
            return []
        return [block.tap for block in self.blocks[max(self.frozen_stages, 0):]]

    def train(self, mode: bool = True) -> 'DINOBackbone':
        """Training mode; frozen parts stay in evaluation mode."""
        super().train(mode)
        for pooling in self._tuned_poolings():
            pooling.train(mode)
        return self

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter and number of depths, for MMPretrain's layer-wise decay of the
        learning rate: embeddings, blocks, and what comes after."""
        depths = len(self.blocks) + 2
        name = param_name.removeprefix(prefix)
        if not param_name.startswith(prefix) or name.startswith('norm.'):
            return depths - 1, depths
        return (int(name.split('.')[1]) + 1 if name.startswith('blocks.') else 0), depths

    @property
    def num_extra_tokens(self) -> int:
        """How many tokens, class and registers, stand before the patches."""
        return 1 + self.num_registers

    def _positions(self, patches: Tensor, hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Class token (1, 1, C) and patches (B, N, C) with what says where they are."""
        return self.cls_token, patches

    def _rope(self, hw: tuple[int, int]) -> Rope | None:
        return None

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Image (B, 3, H, W) to normalised maps (B, C, rows, columns), or to a tuple of the class
        token (B, C).

        Sides that are no multiple of the patch are filled up with zeros at their ends, as the
        host libraries do.
        """
        x = F.pad(x, (0, -x.shape[-1] % self.patch_size, 0, -x.shape[-2] % self.patch_size))
        x = self.patch_embed(x)
        hw = tuple(x.shape[-2:])
        cls_token, x = self._positions(to_tokens(x), hw)
        extra = [t.expand(len(x), -1, -1) for t in (cls_token, self.register_tokens)
                 if t is not None]
        x = torch.cat([*extra, x], dim=1)
        rope = self._rope(hw)
        outputs = {}
        for i, block in enumerate(self.blocks):
            x = checkpoint(block, x, hw, rope) if self.with_cp and self.training else block(
                x, hw, rope)
            if self.out_type == 'featmap' and i in self.out_indices:
                outputs[i] = to_map(self.norm(x[:, self.num_extra_tokens:]), hw)
        if self.out_type == 'featmap':
            return tuple(outputs[i] for i in self.out_indices)
        return (self.norm(x[:, 0]),)

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        if f'{prefix}cls_token' in state_dict:
            found = state_dict.get(f'{prefix}register_tokens')
            count = 0 if found is None else found.shape[1]
            if count != self.num_registers:
                raise ValueError(
                    f'the weights have {count} register tokens, the model {self.num_registers}: '
                    f'set num_registers={count} in the backbone, or take other weights')
        super()._load_from_state_dict(state_dict, prefix, *args)


@MODELS.register_module(force=True)
class DINOv3(DINOBackbone):
    """DINOv3's vision transformer: rotary positions, registers, no bias of the keys.

    Args:
        arch (str | dict): ``'small'``, ``'small_plus'``, ``'base'``, ``'large'``,
            ``'huge_plus'``, ``'7b'``, or a dict with ``embed_dims``, ``num_layers``,
            ``num_heads``, ``feedforward_channels`` and optional ``gated`` (SwiGLU) and
            ``qkv_bias``. Defaults to ``'base'``.
        patch_size (int): Side of a patch in pixels. Defaults to 16.
        tap (dict, optional): ``dict(num_branches=4)`` puts token-aware average pooling of the
            patches in front of every self-attention; see :class:`TokenAwareAvgPooling`.
            Defaults to None.
        num_registers (int): Number of register tokens. Defaults to 4.
        rope_base (float): See :class:`RotaryEmbedding`. Defaults to 100.
        rope_augmentation (dict, optional): See :class:`RotaryEmbedding`; happens in training.
            Defaults to ``dict(rescale=2.)``, as published.
        out_type (str): ``'featmap'`` returns maps, ``'cls_token'`` the normalised class token
            (B, C) for a linear classification head. Defaults to ``'featmap'``.
        out_indices (Sequence[int]): Blocks whose tokens, normalised by the last norm, are
            returned as maps; negative ones count from the end. Defaults to (-1,).
        in_channels (int): Channels of the image. Defaults to 3.
        drop_path_rate (float): Of the last block; grows linearly from 0. Defaults to 0.
        layer_scale (float): Initial scale of the residual branches. Defaults to 1e-5; training
            from scratch for a short time needs a larger one.
        qkv_bias (bool, optional): Whether queries and values have biases. By default the
            architecture's.
        frozen_stages (int): -1 freezes nothing, 0 the embeddings, k the first k blocks too with
            their pooling; all blocks, the last norm as well. Defaults to -1.
        tune (str): ``'all'``, or ``'tap'``: only the token-aware pooling is trained, and the
            diversification loss can act through it alone. Defaults to ``'all'``.
        with_cp (bool): Whether to recompute activations in backward. Defaults to False.
        init_cfg (dict, optional): MMEngine initialisation, e.g. ``Pretrained``.
            Defaults to None.

    Raises:
        ValueError: On options that cannot be, and when weights are loaded that have another
            number of registers or another base of the rotary embedding.
    """

    arch_zoo = {
        'small': _arch(384, 12, 6, 1536),
        'small_plus': _arch(384, 12, 6, 1536, gated=True),
        'base': _arch(768, 12, 12, 3072),
        'large': _arch(1024, 24, 16, 4096),
        'huge_plus': _arch(1280, 32, 20, 5120, gated=True),
        '7b': _arch(4096, 40, 32, 8192, gated=True, qkv_bias=False),
    }
    eps = 1e-5
    key_bias = False

    def __init__(self, arch: str | dict = 'base', patch_size: int = 16, tap: dict | None = None,
                 num_registers: int = 4, rope_base: float = 100.,
                 rope_augmentation: dict | None = dict(rescale=2.),  # noqa: B006
                 out_type: str = 'featmap', out_indices: Sequence[int] = (-1,),
                 in_channels: int = 3, drop_path_rate: float = 0., layer_scale: float = 1e-5,
                 qkv_bias: bool | None = None, frozen_stages: int = -1, tune: str = 'all',
                 with_cp: bool = False, init_cfg: dict | None = None):
        super().__init__(arch, patch_size, tap, num_registers, out_type, out_indices, in_channels,
                         drop_path_rate, layer_scale, qkv_bias, frozen_stages, tune, with_cp,
                         init_cfg)
        self.rope_embed = RotaryEmbedding(self.embed_dims // self.num_heads, rope_base,
                                          rope_augmentation)
        self._freeze()

    def _rope(self, hw: tuple[int, int]) -> Rope:
        return self.rope_embed(hw)


@MODELS.register_module(force=True)
class DINOv2(DINOBackbone):
    """DINOv2's vision transformer with registers, or without.

    Args:
        arch (str | dict): ``'small'``, ``'base'``, ``'large'``, ``'giant'``, or a dict as of
            :class:`DINOv3`. Defaults to ``'base'``.
        patch_size (int): Side of a patch in pixels. Defaults to 14.
        img_size (int): Side in pixels of the images whose grid the positional embedding has;
            for other sizes it is interpolated. Defaults to 518.
        antialias (bool, optional): Whether that interpolation smoothes first. By default as
            published: with registers, yes; without, no.
        tap, num_registers, out_type, out_indices, in_channels, drop_path_rate, layer_scale,
            qkv_bias, frozen_stages, tune, with_cp, init_cfg: See :class:`DINOv3`.

    Raises:
        ValueError: On options that cannot be, and when weights are loaded that have another
            number of registers.
    """

    arch_zoo = {
        'small': _arch(384, 12, 6, 1536),
        'base': _arch(768, 12, 12, 3072),
        'large': _arch(1024, 24, 16, 4096),
        'giant': _arch(1536, 40, 24, 4096, gated=True),
    }
    eps = 1e-6
    key_bias = True

    def __init__(self, arch: str | dict = 'base', patch_size: int = 14, img_size: int = 518,
                 antialias: bool | None = None, tap: dict | None = None, num_registers: int = 4,
                 out_type: str = 'featmap', out_indices: Sequence[int] = (-1,),
                 in_channels: int = 3, drop_path_rate: float = 0., layer_scale: float = 1e-5,
                 qkv_bias: bool | None = None, frozen_stages: int = -1, tune: str = 'all',
                 with_cp: bool = False, init_cfg: dict | None = None):
        super().__init__(arch, patch_size, tap, num_registers, out_type, out_indices, in_channels,
                         drop_path_rate, layer_scale, qkv_bias, frozen_stages, tune, with_cp,
                         init_cfg)
        if img_size < patch_size or img_size % patch_size:
            raise ValueError(f'img_size={img_size} is no multiple of patch_size={patch_size}')
        self.grid = img_size // patch_size
        self.antialias = num_registers > 0 if antialias is None else antialias
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + self.grid ** 2, self.embed_dims))
        nn.init.trunc_normal_(self.pos_embed, std=.02)
        self._freeze()

    def _positions(self, patches: Tensor, hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
        of_class, of_patches = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        if hw != (self.grid, self.grid):
            of_patches = to_tokens(F.interpolate(
                to_map(of_patches, (self.grid, self.grid)).float(), hw, mode='bicubic',
                antialias=self.antialias)).to(of_patches.dtype)
        return self.cls_token + of_class, patches + of_patches
