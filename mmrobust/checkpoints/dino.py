"""Weights of DINOv2 and DINOv3 by the names of the original files, of Hugging Face and of timm.

The original names are ours, but for packed gated networks, registers, and what only pretraining
uses. Hugging Face splits queries, keys and values; timm adds the class token's position to it.
"""
import re
from collections.abc import Mapping

import torch
from mmengine.registry import MODELS
from torch import Tensor

from mmrobust.utils.rotary import rope_base as base_of
from mmrobust.utils.rotary import rope_periods

from .recognition import Recognition

ARCHS = {  # (family, width, blocks, gated) -> arch
    ('DINOv3', 384, 12, False): 'small',
    ('DINOv3', 384, 12, True): 'small_plus',
    ('DINOv3', 768, 12, False): 'base',
    ('DINOv3', 1024, 24, False): 'large',
    ('DINOv3', 1280, 32, True): 'huge_plus',
    ('DINOv3', 4096, 40, True): '7b',
    ('DINOv2', 384, 12, False): 'small',
    ('DINOv2', 768, 12, False): 'base',
    ('DINOv2', 1024, 24, False): 'large',
    ('DINOv2', 1536, 40, True): 'giant',
}
# pretraining's, and the mask of the keys' bias, which our layer has built in
UNUSED = re.compile(r'(embeddings\.)?mask_token$|.*\.bias_mask$|local_cls_norm\.')
NAMES = tuple((re.compile(old), new) for old, new in (
    (r'^(?:model\.|encoder\.)?layer\.(\d+)\.', r'blocks.\1.'),
    (r'^embeddings\.position_embeddings$', 'pos_embed'),
    (r'^embeddings\.patch_embeddings\.(?:projection\.)?', 'patch_embed.proj.'),
    (r'^embeddings\.', ''),
    (r'^(?:storage_tokens|reg_token)$', 'register_tokens'),
    (r'^layernorm\.', 'norm.'),
    (r'\.attention\.(?:o_proj|output\.dense)\.', '.attn.proj.'),
    (r'\.attention\.(?:attention\.)?(q|k|v)(?:_proj|uery|ey|alue)\.', r'.attn.\1.'),
    (r'\.attn\.(q|v)_bias$', r'.attn.\1.bias'),
    (r'\.layer_scale(\d)\.lambda1$', r'.ls\1.gamma'),
    (r'\.gamma_(\d)$', r'.ls\1.gamma'),
    (r'\.mlp\.(?:gate_proj|fc1_g)\.', '.mlp.w1.'),
    (r'\.mlp\.fc1_x\.', '.mlp.w2.'),
    (r'\.mlp\.weights_in\.', '.mlp.w12.'),
    (r'\.mlp\.weights_out\.', '.mlp.w3.'),
))
GATED_NAMES = {'up_proj': 'w2', 'down_proj': 'w3', 'fc2': 'w3'}
PLAIN_NAMES = {'up_proj': 'fc1', 'down_proj': 'fc2'}


def is_dino(weights: Mapping[str, Tensor]) -> bool:
    """Whether weights are a DINOv2's or DINOv3's by their names."""
    return bool(weights.keys() & {'blocks.0.ls1.gamma', 'blocks.0.gamma_1',
                                  'embeddings.patch_embeddings.weight',
                                  'embeddings.patch_embeddings.projection.weight'}
                ) and bool(weights.keys() & {'cls_token', 'embeddings.cls_token'})


def is_unused(key: str) -> bool:
    """Whether a model without pretraining's parts has no use for a weight."""
    return UNUSED.match(key) is not None


def convert_dino(weights: Mapping[str, Tensor], num_heads: tuple[int, ...] | None = None,
                 rope_base: float | None = None
                 ) -> tuple[dict[str, Tensor], dict[str, str], Recognition]:
    """Convert weights to our names.

    Args:
        weights (Mapping[str, Tensor]): By their names in the file, without what is unused.
        num_heads (tuple[int], optional): One number, for a size without a name whose file does
            not hold the rotary embedding. Defaults to None.
        rope_base (float, optional): Base of the rotary embedding, which the files of Hugging
            Face and timm do not hold. Defaults to that of the file, else 100.

    Returns:
        tuple: Converted weights with ``backbone.`` in front, new name of each old one, and what
        they were found to be.

    Raises:
        ValueError: If something is missing or the size cannot be told.
    """
    gated = any(re.search(r'\.mlp\.(w1|w12|gate_proj|fc1_g|weights_in)\.', k) for k in weights)
    names = {key: _renamed(key) for key in weights}
    parts = {names[key]: value for key, value in weights.items()}
    try:
        hidden, out = parts.get('blocks.0.mlp.fc1.weight'), parts.get('blocks.0.mlp.fc2.weight')
        if hidden is not None and out is not None and len(hidden) == 2 * out.shape[1]:
            gated = True  # timm packs a gated network as fc1
            names = {k: v.replace('.mlp.fc1.', '.mlp.w12.') for k, v in names.items()}
        rest = GATED_NAMES if gated else PLAIN_NAMES
        names = {key: re.sub(r'(?<=\.mlp\.)(\w+)', lambda m: rest.get(m[1], m[1]), name)
                 for key, name in names.items()}
        parts = _fused({names[key]: value for key, value in weights.items()})
        config = _config(parts, gated, num_heads, rope_base)
    except KeyError as error:
        raise ValueError(f'the weights are incomplete: {error} is missing') from None
    final = {key: f'backbone.{re.sub(r"[.]attn[.][qkv][.]", ".attn.qkv.", name)}'
             for key, name in names.items()}
    recognition = Recognition(config['type'], 'backbone', config, None)
    return {f'backbone.{k}': v for k, v in parts.items()}, final, recognition


def _renamed(key: str) -> str:
    for old, new in NAMES:
        key = old.sub(new, key)
    return key


def _fused(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """With queries, keys and values in one layer, and gates and their values in two."""
    done = {k: v for k, v in parts.items() if not re.search(r'\.(attn\.[qkv]|mlp\.w12)\.', k)}
    for key, value in parts.items():
        if '.mlp.w12.' in key:
            for name, half in zip(('w1', 'w2'), value.chunk(2), strict=True):
                done[key.replace('w12', name)] = half.clone()
        elif '.attn.q.' in key:
            k_key, v_key = (key.replace('.attn.q.', f'.attn.{part}.') for part in 'kv')
            keys = parts.get(k_key)  # DINOv3 has no bias of the keys
            if keys is None:
                keys = torch.zeros_like(value)
            done[key.replace('.attn.q.', '.attn.qkv.')] = torch.cat([value, keys, parts[v_key]])
    return done


def _config(parts: dict[str, Tensor], gated: bool, num_heads: tuple[int, ...] | None,
            rope_base: float | None) -> dict:
    """The backbone; gives ``parts`` what belongs to the model and the file does not hold."""
    family = 'DINOv2' if 'pos_embed' in parts else 'DINOv3'
    patch = parts['patch_embed.proj.weight']
    width, channels, patch_size = patch.shape[0], patch.shape[1], patch.shape[-1]
    depth = len({m[1] for k in parts if (m := re.match(r'blocks\.(\d+)\.', k))})
    periods = parts.get('rope_embed.periods')
    bias = parts.get('blocks.0.attn.qkv.bias')
    hidden = parts[f'blocks.0.mlp.{"w3" if gated else "fc2"}.weight'].shape[1]
    name = ARCHS.get((family, width, depth, gated))
    if name is not None and hidden != _zoo(family)[name]['feedforward_channels']:
        name = None
    if name is not None:
        heads = _zoo(family)[name]['num_heads']
        arch = name
        qkv_bias = _zoo(family)[name]['qkv_bias']
    else:
        if periods is not None:
            heads = width // (4 * len(periods))
        elif num_heads:
            heads = num_heads[0]
        else:
            raise ValueError(f'a {family} of width {width} and {depth} blocks has no name, and '
                             'its weights do not tell its number of heads: give --num-heads')
        arch = dict(embed_dims=width, num_layers=depth, num_heads=heads,
                    feedforward_channels=hidden, gated=gated)
        qkv_bias = True
    registers = parts.get('register_tokens')
    config = dict(type=family, arch=arch)
    options = dict(num_registers=(0 if registers is None else registers.shape[1], 4),
                   in_channels=(channels, 3), qkv_bias=(bias is not None, qkv_bias))
    if family == 'DINOv2':
        positions = parts['pos_embed']
        side = round(positions.shape[1] ** .5)
        if side ** 2 == positions.shape[1]:  # of timm: the class token's is part of it
            parts['pos_embed'] = torch.cat(
                [torch.zeros_like(positions[:, :1]), positions], dim=1)
        elif side ** 2 + 1 != positions.shape[1]:
            raise ValueError(f'the {positions.shape[1]} positions of the weights are no square '
                             'grid, with or without a class token')
        options |= dict(patch_size=(patch_size, 14), img_size=(side * patch_size, 518))
    else:
        if periods is None:
            if width % (4 * heads):
                raise ValueError(f'{heads} heads do not fit a width of {width}: give --num-heads')
            periods = parts['rope_embed.periods'] = rope_periods(width // heads, rope_base or 100.)
        if bias is not None:
            for key in [k for k in parts if k.endswith('.attn.qkv.bias')]:
                q, k, v = parts[key].chunk(3)
                parts[key] = torch.cat([q, torch.zeros_like(k), v])
        base = 100. if periods.is_meta else base_of(periods)
        if rope_base is not None and abs(base - rope_base) > rope_base / 50:
            raise ValueError(f'the weights hold a rotary embedding of base {base:g}, not '
                             f'{rope_base:g}: leave --rope-base out')
        base = 100. if abs(base - 100) < 2 else rope_base or base  # they are rounded
        options |= dict(patch_size=(patch_size, 16), rope_base=(base, 100.))
    return config | {k: value for k, (value, default) in options.items() if value != default}


def _zoo(family: str) -> dict[str, dict]:
    return MODELS.get(family).arch_zoo
