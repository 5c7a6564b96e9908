"""Which of the authors' models a set of weights belongs to, from its keys and shapes alone."""
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

from torch import Tensor

# (kind of patch embedding, widths, blocks per width) -> arch of FAN
FAN_ARCHS = {
    ('hybrid', (192,), (8,)): 'tiny_hybrid',
    ('hybrid', (384,), (10,)): 'small_hybrid',
    ('hybrid', (448,), (16,)): 'base_hybrid',
    ('hybrid', (480,), (22,)): 'large_hybrid',
    ('hybrid', (528, 768), (20, 3)): 'xlarge_hybrid',
    ('conv', (192,), (12,)): 'tiny_vit',
    ('conv', (384,), (12,)): 'small_vit',
    ('conv', (448,), (18,)): 'base_vit',
    ('conv', (480,), (24,)): 'large_vit',
}
# (widths, blocks per width) -> arch of RVT
RVT_ARCHS = {
    ((192, 384), (10, 2)): 'tiny',
    ((384,), (12,)): 'small',
    ((768,), (12,)): 'base',
}


@dataclass(frozen=True)
class Recognition:
    """What a set of weights was found to be.

    Attributes:
        family (str): ``'FAN'``, ``'RVT'``, ``'DINOv2'`` or ``'DINOv3'``.
        task (str): ``'classification'``, ``'segmentation'``, or either of them followed by
            ``' backbone'`` where the weights have no head.
        backbone (dict): Config of our backbone.
        head (dict, optional): Config of the head.
    """

    family: str
    task: str
    backbone: dict
    head: dict | None

    @property
    def description(self) -> str:
        """One line for people."""
        arch, tap = self.backbone['arch'], self.backbone.get('tap')
        size = arch if isinstance(arch, str) else f'of its own size {arch}'
        pooling = f'TAP (K = {tap["num_branches"]})' if tap else 'no TAP'
        reasoning = ', patch reasoning' if self.backbone.get('patch_reasoning') else ''
        return f'{self.family} {size}, {pooling}{reasoning}, {self.task}'

    @property
    def config(self) -> dict:
        """Config of the model, or of the backbone where the weights have no head."""
        if self.head is None:
            return self.backbone
        if self.task == 'classification':
            return dict(type='mmpretrain.ImageClassifier', backbone=self.backbone, head=self.head)
        return dict(type='mmseg.EncoderDecoder', backbone=self.backbone, decode_head=self.head,
                    test_cfg=dict(mode='whole'))


def recognise(weights: Mapping[str, Tensor], num_heads: tuple[int, ...] | None = None
              ) -> Recognition:
    """Recognise the authors' model that weights belong to.

    Args:
        weights (Mapping[str, Tensor]): Weights with the authors' keys and no wrapper's prefix.
        num_heads (tuple[int], optional): Heads per width, where neither the size of an RVT nor
            a position mask tells them. Defaults to None.

    Raises:
        ValueError: If they belong to no supported model; says why.
    """
    backbone = {k.removeprefix('backbone.'): v for k, v in weights.items()
                if not k.startswith(('head.', 'decode_head.'))}
    _refuse_unsupported(backbone)
    try:
        if 'pos_embed.token_projection.weight' in backbone and 'blocks.0.gamma1' in backbone:
            family, config = 'FAN', _fan(backbone)
        elif 'transformers.0.blocks.0.norm1.weight' in backbone:
            family, config = 'RVT', _rvt(backbone, num_heads)
        else:
            raise ValueError('the weights belong to neither FAN nor RVT, DINOv2 nor DINOv3: '
                             f'their keys begin with {", ".join(list(weights)[:3])}')
    except KeyError as error:
        raise ValueError(f'the weights are incomplete: {error} is missing') from None

    decode_head = {k: v for k, v in weights.items() if k.startswith('decode_head.')}
    # the authors' segmentation backbones end without a norm
    task = 'classification' if 'norm.weight' in backbone and not decode_head else 'segmentation'
    head = None
    if task == 'classification':
        config['out_type'] = 'cls_token' if family == 'FAN' else 'avg_featmap'
        if 'head.weight' in weights:
            classes, width = weights['head.weight'].shape
            head = dict(type='mmpretrain.LinearClsHead', num_classes=classes, in_channels=width)
    else:
        if family == 'FAN':
            config['paired_frequencies'] = False
            if isinstance(config['arch'], dict):
                config['out_indices'] = _map_indices(config['arch'])
        head = _decode_head(decode_head)
    return Recognition(family, task if head else f'{task} backbone', config, head)


def _refuse_unsupported(weights: Mapping[str, Tensor]) -> None:
    if any('.mlp.se.' in key for key in weights):
        raise ValueError('the weights are of a FAN with squeeze-and-excitation MLPs (se_attn), '
                         'which is not supported: the authors\' code cannot run that model')
    if any(key.startswith('layers.0.blocks.') for key in weights):
        raise ValueError('the weights are of a Swin Transformer (FAN-Swin has neither FAN nor '
                         'TAP blocks): load Swin with MMPretrain instead')
    if any(key.startswith('feat_downsample') or key.startswith('learnable_downsample')
           for key in weights):
        raise ValueError('the weights are of a FAN with a learnable downsampling of its last '
                         'map, which none of the published models has: not supported')


def _count(weights: Mapping[str, Tensor], pattern: str) -> int:
    """How many different numbers stand at the group of the pattern."""
    return len({m[1] for key in weights if (m := re.match(pattern, key))})


def _tap(weights: Mapping[str, Tensor], block: str) -> dict:
    weight = weights.get(f'{block}.dilation_predictor.proj.0.weight')
    return {} if weight is None else dict(tap=dict(num_branches=weight.shape[0]))


def _differing(**values) -> dict:
    """The entries whose value is not the default: ``name=(value, default)``."""
    return {name: value for name, (value, default) in values.items() if value != default}


def _fan(weights: Mapping[str, Tensor]) -> dict:
    blocks = range(_count(weights, r'blocks\.(\d+)\.'))
    sizes = [(weights[f'blocks.{i}.norm1.weight'].shape[0],
              weights[f'blocks.{i}.mlp.temperature'].shape[0]) for i in blocks]
    stages = [(width, heads, len(list(group))) for (width, heads), group in groupby(sizes)]
    widths, num_heads, depths = zip(*stages, strict=True)

    arch = dict(embed_dims=widths, depths=depths, num_heads=num_heads)
    if 'patch_embed.backbone.stem.0.weight' in weights:
        kind, stem = 'hybrid', 'patch_embed.backbone'
        channels = weights[f'{stem}.stem.0.weight'].shape[1]
        stem_stages = range(_count(weights, rf'{stem}\.stages\.(\d+)\.'))
        arch.update(
            patch_embed=kind,
            stem_depths=tuple(_count(weights, rf'{stem}\.stages\.{i}\.blocks\.(\d+)\.')
                              for i in stem_stages),
            stem_dims=tuple(weights[f'{stem}.stages.{i}.blocks.0.gamma'].shape[0]
                            for i in stem_stages))
    else:
        kind, channels = 'conv', weights['patch_embed.proj.0.0.weight'].shape[1]
        arch.update(patch_embed=kind,
                    patch_size=2 ** _count(weights, r'patch_embed\.proj\.(\d+)\.0\.weight'))
    hidden = weights['blocks.0.mlp.mlp_v.fc1.weight'].shape[0]
    reasoning = 'blocks.0.attn.qkv.0.weight' in weights
    return dict(
        type='FAN', arch=FAN_ARCHS.get((kind, widths, depths), arch), **_tap(weights, 'blocks.0'),
        **_differing(in_channels=(channels, 3), mlp_ratio=(hidden / widths[0], 4.),
                     qkv_bias=(reasoning or 'blocks.0.attn.q.bias' in weights, True),
                     patch_reasoning=(reasoning, False),
                     num_class_attention=(_count(weights, r'cls_attn_blocks\.(\d+)\.'), 2)))


def _map_indices(arch: dict) -> tuple[int, ...]:
    """Blocks whose maps the authors' segmentation code returns; -1 is the class attention."""
    last = sum(arch['depths']) - 1
    blocks = (last,) if arch['patch_embed'] == 'hybrid' else (4, 7, 11)
    return (*(i for i in blocks if i <= last), -1)


def _rvt(weights: Mapping[str, Tensor], num_heads: tuple[int, ...] | None) -> dict:
    stages = range(_count(weights, r'transformers\.(\d+)\.'))
    depths = tuple(_count(weights, rf'transformers\.{i}\.blocks\.(\d+)\.') for i in stages)
    widths = tuple(weights[f'transformers.{i}.blocks.0.norm1.weight'].shape[0] for i in stages)
    masks = [v for k, v in weights.items() if k.endswith('.attn.att_mask')]
    if num_heads is None and masks and len(widths) == 1:
        num_heads = (masks[0].shape[0],)
    arch = RVT_ARCHS.get((widths, depths))
    if arch is None and num_heads is None:
        raise ValueError(f'an RVT of widths {widths} and depths {depths} has no name, and its '
                         'weights do not tell its number of heads: give --num-heads')
    if arch is None:
        arch = dict(embed_dims=widths, depths=depths, num_heads=tuple(num_heads))
    elif masks:
        arch += '_plus'
    first = 'transformers.0.blocks.0'
    fc1 = weights[f'{first}.mlp.fc1.weight']
    qkv_bias = f'{first}.attn.qkv.bias' in weights
    reasoning = f'{first}.attn.patch_reasoning.0.weight' in weights
    return dict(type='RVT', arch=arch, **_tap(weights, first),
                mlp='conv' if fc1.ndim == 4 else 'linear', masked_blocks=len(masks),
                **_differing(mask_tokens=(masks[0].shape[-1] if masks else 196, 196),
                             in_channels=(weights['patch_embed.proj.0.weight'].shape[1], 3),
                             mlp_ratio=(fc1.shape[0] / widths[0], 4.),
                             qkv_bias=(qkv_bias or reasoning, True),
                             patch_reasoning=(reasoning, False)))


def _decode_head(weights: Mapping[str, Tensor]) -> dict | None:
    if not weights:
        return None
    maps = [weights[key] for i in range(1, 5)
            if (key := f'decode_head.linear_c{i}.proj.weight') in weights]
    predictor = weights.get('decode_head.linear_pred.weight')
    if len(maps) != 4 or predictor is None:
        raise ValueError("the decode head is not the authors' SegFormerHead with four maps: its "
                         f'keys begin with {", ".join(list(weights)[:3])}')
    return dict(type='MLPDecodeHead', in_channels=[w.shape[1] for w in maps],
                in_index=[0, 1, 2, 3], channels=maps[0].shape[0],
                num_classes=predictor.shape[0], norm_cfg=dict(type='BN'))
