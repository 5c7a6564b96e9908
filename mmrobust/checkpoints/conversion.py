"""Between the authors' names of weights and ours.

Names differ; one linear layer of AFAT's FAN is a 1x1 convolution here; and our FAN keeps the
wavelengths of its positional encoding with its weights, where the authors' classification and
segmentation code compute different ones.
"""
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor

from .dino import convert_dino, is_dino, is_unused
from .recognition import Recognition, recognise
from .weights import AVERAGE, OWN, WRAPPERS, check_values, find_weights

# the authors' beginning of a key and ours; {} is a number
BACKBONE_NAMES = (
    ('blocks.{}.dilation_predictor.proj.', 'blocks.{}.tap.predictor.'),
    ('transformers.{}.blocks.{}.dilation_predictor.proj.',
     'transformers.{}.blocks.{}.tap.predictor.'),
    ('blocks.{}.downsample.', 'downsamples.{}.'),
    ('blocks.{}.attn.qkv.0.', 'blocks.{}.attn.patch_reasoning.0.'),
    ('blocks.{}.attn.fc.', 'blocks.{}.attn.patch_reasoning.2.'),
)
HEAD_NAMES = (
    ('head.', 'head.fc.'),
    *((f'decode_head.linear_c{i + 1}.proj.', f'decode_head.linears.{i}.') for i in range(4)),
    ('decode_head.linear_fuse.', 'decode_head.fusion_conv.'),
    ('decode_head.linear_pred.', 'decode_head.conv_seg.'),
)
MODEL = ('backbone.', 'head.', 'decode_head.')
# a DINO of another origin: registers, class token and scales have other names than ours
FOREIGN_DINO = {'storage_tokens', 'reg_token', 'embeddings.cls_token', 'blocks.0.gamma_1',
                'blocks.0.mlp.w12.weight'}
WAVELENGTHS = 'backbone.pos_embed.wavelengths'
# what no model uses: an unused layer of the authors' head, and counters of a FLOP counter
HARMLESS = re.compile(r'decode_head\.conv_seg\.|(.*\.)?total_(ops|params)$')
# what only our names begin with
OUR_NAMES = re.compile(r'backbone\.(pos_embed\.wavelengths|transformers\.|.*\.tap\.predictor\.)|'
                       r'decode_head\.linears\.')


@dataclass(frozen=True)
class Conversion:
    """Converted weights and how they came about.

    Attributes:
        state_dict (dict[str, Tensor]): Weights by their new names.
        names (dict[str, str]): New name of each old one.
        ignored (list[str]): Harmless keys that were left out.
        source (str): Entry of the checkpoint that was converted.
        recognition (Recognition): What the weights belong to.
    """

    state_dict: dict[str, Tensor]
    names: dict[str, str]
    ignored: list[str]
    source: str
    recognition: Recognition


def from_official(checkpoint: Mapping[str, Any], weights: str = 'auto',
                  num_heads: tuple[int, ...] | None = None,
                  rope_base: float | None = None) -> Conversion:
    """Convert a checkpoint of the authors' to our names and verify that our model fits it.

    Args:
        checkpoint (Mapping[str, Any]): What the authors' file holds.
        weights (str): ``'ema'``, ``'model'``, or ``'auto'``: the moving average where there is
            one. Defaults to ``'auto'``.
        num_heads (tuple[int], optional): See :func:`recognise`. Defaults to None.
        rope_base (float, optional): See :func:`convert_dino`. Defaults to None.

    Raises:
        ValueError: If there are no such weights, if they belong to no supported model, or if
            keys or shapes do not fit the model.
    """
    source, state_dict = _pick(checkpoint, weights)
    if is_dino(state_dict):
        ignored = [k for k in state_dict if is_unused(k)]
        converted, names, recognition = convert_dino(
            {k: v for k, v in state_dict.items() if k not in ignored}, num_heads, rope_base)
        _verify(converted, recognition)
        return Conversion(converted, names, ignored, source, recognition)
    if is_dino({k.removeprefix('backbone.'): v for k, v in state_dict.items()}):
        raise ValueError('the weights bear the names of mmrobust already: there is nothing to '
                         'convert')
    if rope_base is not None:
        raise ValueError('--rope-base is for DINOv3, which the weights are not of')
    ignored = [k for k in state_dict if HARMLESS.match(k)]
    state_dict = {k: v for k, v in state_dict.items() if k not in ignored}
    if any(OUR_NAMES.match(key) for key in state_dict):
        raise ValueError('the weights bear the names of mmrobust already: there is nothing to '
                         'convert; --to-official converts them to the authors\' names')
    recognition = recognise(state_dict, num_heads)
    names = {key: _ours(key) for key in state_dict}
    converted = {names[k]: v[..., None, None] if k.endswith('.attn.fc.weight') else v
                 for k, v in state_dict.items()}
    if recognition.family == 'FAN':
        converted[WAVELENGTHS] = _wavelengths(state_dict, recognition)
    _verify(converted, recognition)
    return Conversion(converted, names, ignored, source, recognition)


def to_official(checkpoint: Mapping[str, Any]) -> Conversion:
    """Convert a checkpoint of ours to the authors' names.

    Args:
        checkpoint (Mapping[str, Any]): A checkpoint or the weights themselves, of a classifier,
            a segmentor or a bare backbone.

    Raises:
        ValueError: If the weights are not those of a FAN or an RVT of ours, or if the authors'
            code would compute another positional encoding.
    """
    source, state_dict = _pick(checkpoint, 'model')
    if is_dino({k.removeprefix('backbone.'): v for k, v in state_dict.items()}):
        raise ValueError('weights of DINOv2 and DINOv3 are converted to our names only: there is '
                         'no way back to the names of their three sources')
    wavelengths = state_dict.pop(WAVELENGTHS, None)
    ignored = [] if wavelengths is None else [WAVELENGTHS]
    if any(k.startswith('backbone.') for k in state_dict):
        # training objectives and auxiliary heads are no part of the authors' models
        extra = [k for k in state_dict if not k.startswith(MODEL)]
        ignored += extra
        state_dict = {k: v for k, v in state_dict.items() if k not in extra}
    segmentor = any(k.startswith('decode_head.') for k in state_dict)
    names = {key: _theirs(key, segmentor) for key in state_dict}
    converted = {names[k]: v.flatten(1) if names[k].endswith('.attn.fc.weight') else v
                 for k, v in state_dict.items()}
    recognition = recognise(converted, num_heads=())
    if wavelengths is not None and not wavelengths.is_meta and not torch.allclose(
            wavelengths.float().cpu(), _wavelengths(converted, recognition)):
        raise ValueError(f"the authors' {recognition.task} code computes other wavelengths for "
                         'the positional encoding than this model was trained with '
                         '(paired_frequencies), so it would not give the same numbers')
    return Conversion(converted, names, ignored, source, recognition)


def has_official_names(checkpoint: Mapping[str, Any]) -> bool:
    """Whether weights bear names that only the authors' models have."""
    for source in (*AVERAGE, *OWN, None):
        weights = checkpoint if source is None else checkpoint.get(source)
        if isinstance(weights, Mapping):
            keys = {_unwrapped(k) for k in weights if isinstance(k, str)}
            ours = any(k.startswith('backbone.') for k in keys)
            if is_dino(dict.fromkeys(keys)) and keys & FOREIGN_DINO:
                return True
            if any('.dilation_predictor.' in k for k in keys) or (
                    'decode_head.linear_pred.weight' in keys) or (
                    not ours and 'head.weight' in keys
                    and keys & {'cls_attn_blocks.0.gamma1', 'transformers.0.blocks.0.norm1.bias'}):
                return True
    return False


def _pick(checkpoint: Any, weights: str) -> tuple[str, dict[str, Tensor]]:
    """The entry that holds the weights, and the weights by their names without wrappers."""
    if weights == 'auto':
        averaged = isinstance(checkpoint, Mapping) and any(
            isinstance(checkpoint.get(name), Mapping) for name in AVERAGE)
        weights = 'ema' if averaged else 'model'
    source, found = find_weights(checkpoint, 'the file', weights)
    source = source or 'the file itself'
    if bad := [k for k, v in found.items() if not isinstance(v, Tensor)]:
        raise ValueError(f"{source} holds something other than a tensor at '{bad[0]}'")
    check_values(found, source)
    return source, {_unwrapped(k): v for k, v in found.items()}


def _unwrapped(key: str) -> str:
    return WRAPPERS.sub('', key)


def _renamed(key: str, names: tuple[tuple[str, str], ...]) -> str:
    for old, new in names:
        if match := re.match(re.escape(old).replace(r'\{\}', r'(\d+)'), key):
            return new.format(*match.groups()) + key[match.end():]
    return key


def _ours(key: str) -> str:
    if key.startswith(('head.', 'decode_head.')):
        return _renamed(key, HEAD_NAMES)
    return 'backbone.' + _renamed(key.removeprefix('backbone.'), BACKBONE_NAMES)


def _theirs(key: str, segmentor: bool) -> str:
    if key.startswith(('head.', 'decode_head.')):
        return _renamed(key, [pair[::-1] for pair in HEAD_NAMES])
    name = _renamed(key.removeprefix('backbone.'), [pair[::-1] for pair in BACKBONE_NAMES])
    return f'backbone.{name}' if segmentor else name


def _wavelengths(weights: Mapping[str, Tensor], recognition: Recognition) -> Tensor:
    """Those of the positional encoding that the authors' code computes for this task."""
    projection = next(v for k, v in weights.items()
                      if k.endswith('pos_embed.token_projection.weight'))
    count = projection.shape[1] // 2
    index = torch.arange(count, dtype=torch.float32)
    if recognition.backbone.get('paired_frequencies', True):
        index = 2 * torch.div(index, 2, rounding_mode='floor')
    return 10000 ** (index / count)


def _verify(weights: Mapping[str, Tensor], recognition: Recognition) -> None:
    """Compare keys and shapes with those of our model, built without memory."""
    expected = {}
    parts = dict(backbone=recognition.backbone)
    if recognition.task == 'segmentation':
        parts['decode_head'] = recognition.head
    elif recognition.head:
        classes, width = recognition.head['num_classes'], recognition.head['in_channels']
        expected = {'head.fc.weight': (classes, width), 'head.fc.bias': (classes,)}
    scope = 'mmseg' if 'decode_head' in parts else None
    with torch.device('meta'), DefaultScope.overwrite_default_scope(scope):
        for name, config in parts.items():
            expected |= {f'{name}.{k}': tuple(v.shape)
                         for k, v in MODELS.build(config).state_dict().items()}
    given = {k: tuple(v.shape) for k, v in weights.items()}
    for keys, problem in (
            (given.keys() - expected.keys(), 'has no place for'),
            (expected.keys() - given.keys(), 'misses'),
            ({k for k in expected.keys() & given.keys() if expected[k] != given[k]},
             'expects another shape of')):
        if keys:
            raise ValueError(f'{recognition.description}: our model {problem} {len(keys)} of the '
                             f'weights, such as {", ".join(sorted(keys)[:3])}')
