"""Parameters and operations of models, and what token-aware average pooling adds.

One operation is a multiply-add, as in the papers. Counted are convolutions and matrix products,
and the weighted sum of pooling.
"""
import copy
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.hooks import RemovableHandle

from mmrobust.models.layers.tap import TokenAwareAvgPooling
from mmrobust.utils.compat import dense_attention
from mmrobust.utils.figures import COLOURS, SIZES, legend_below, new_figure, save_figure
from mmrobust.utils.files import write_table

from .capture import attention_layers, capture_attention
from .subject import own_scope, without_pretrained


def measure_complexity(model: nn.Module, shape: tuple[int, int]) -> dict[str, float | None]:
    """Count what a model has and does for one image, without computing anything.

    Args:
        model (nn.Module): A model on the meta device, in evaluation mode.
        shape (tuple[int, int]): Height and width of the image.

    Returns:
        dict: ``parameters`` and ``operations`` of the whole, of self-attention and of TAP, and
        the paper's counts of the operations: ``4 N C^2 + 2 N^2 C`` of self-attention and
        ``11 N C K + 9 N K^2`` of TAP, for N tokens, C channels and K branches, summed over the
        layers. None where a model has none, or the paper no formula (a convolution or a plain
        average in the place of TAP). The corruption model of AFAT, which only training needs,
        does not count.
    """
    pooling = {name: module for name, module in model.named_modules()
               if isinstance(module, TokenAwareAvgPooling)}
    pooled: dict[str, tuple[int, ...]] = {}
    hooks = [module.register_forward_pre_hook(
        lambda module, args, name=name: pooled.__setitem__(name, tuple(args[0].shape)))
        for name, module in pooling.items()]
    try:
        attention = list(attention_layers(model))
    except ValueError:
        attention = []
    counter = FlopCounterMode(display=False, depth=None)
    counts = dict.fromkeys([*attention, *pooling], 0.)
    for name in counts:
        hooks += _count_within(model.get_submodule(name), name, counter, counts)
    # the other kernels of attention are no matrix products to the counter
    with torch.no_grad(), dense_attention(), counter:
        model(torch.empty(1, 3, *shape, device='meta'), mode='tensor')
    found: dict[str, float | None] = dict(
        parameters=_parameters([model]) - _parameters(_training_only(model)),
        operations=counter.get_total_flops() / 2,
        attention_parameters=None, attention_operations=None, attention_formula=None,
        tap_parameters=None, tap_operations=None, tap_formula=None)
    for hook in hooks:
        hook.remove()
    if attention:
        found.update(attention_parameters=_parameters(map(model.get_submodule, attention)),
                     attention_operations=sum(counts[name] for name in attention),
                     attention_formula=_attention_formula(model, shape))
    if pooled:
        sums, formula = 0., None
        for name, (_, channels, height, width) in pooled.items():
            module = pooling[name]
            sums += _aggregation(module, channels * height * width)
            if module.mode in ('dilated', 'multi_kernel'):
                tokens, branches = height * width, module.num_branches
                formula = (formula or 0.) + (11 * tokens * channels * branches
                                             + 9 * tokens * branches ** 2)
        found.update(tap_parameters=_parameters(pooling.values()), tap_formula=formula,
                     tap_operations=sums + sum(counts[name] for name in pooling))
        found['operations'] += sums
    return found


def _count_within(module: nn.Module, name: str, counter: FlopCounterMode,
                  counts: dict[str, float]) -> list[RemovableHandle]:
    """Add to ``counts[name]`` what the counter counts while the module runs.

    The counter's own counts by module have other names, or none, in older versions of torch.
    """
    def add(sign: int) -> None:
        counts[name] += sign * counter.get_total_flops() / 2

    return [module.register_forward_pre_hook(lambda *_: add(-1)),
            module.register_forward_hook(lambda *_: add(1))]


def _training_only(model: nn.Module) -> list[nn.Module]:
    alignment = getattr(model, 'alignment', None)
    return [] if alignment is None else [alignment]


def _aggregation(module: TokenAwareAvgPooling, values: int) -> int:
    """Operations of pooling and weighted sum; convolutions are counted as such.

    As in the paper's formula, an average is one for each of its values, whatever the window.
    """
    if module.mode == 'conv':
        return 0
    return values if module.mode == 'avg_pool' else 2 * values * module.num_branches


def _parameters(modules: Any) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def _attention_formula(model: nn.Module, shape: tuple[int, int]) -> float:
    total = 0.
    with torch.no_grad(), capture_attention(model) as captured:
        model(torch.empty(1, 3, *shape, device='meta'), mode='tensor')
    for name, maps in captured.items():
        count, heads, queries, keys = maps.shape
        module = model.get_submodule(name)
        channels = (maps.query.shape[-1] * heads if maps.query is not None
                    else module.w_msa.embed_dims)
        # queries and output of N tokens, keys and values of as many as there are
        total += count * (2 * queries + 2 * keys) * channels ** 2
        total += count * 2 * queries * keys * channels
    return total


def build_on_meta(cfg: Config) -> nn.Module:
    """The model of a config, shapes without values."""
    # built with values first: constructors of the host libraries compute with tensors
    with own_scope(cfg):
        model = MODELS.build(without_pretrained(cfg.model)).to('meta')
    model.eval()
    return model


def complexity(configs: Sequence[tuple[str, Config]], out: str | Path,
               shape: tuple[int, int] | None = None) -> str:
    """Compare models, into ``complexity.png``, ``.pdf`` and ``.csv``.

    Args:
        configs (Sequence[tuple[str, Config]]): Names and configs.
        out (str | Path): Folder of the files.
        shape (tuple[int, int], optional): Height and width of the image. Defaults to the crops
            that a segmenter is trained with, else 224 x 224.

    Returns:
        str: The table.
    """
    rows = []
    for name, cfg in configs:
        size = tuple(shape or cfg.get('crop_size') or (224, 224))
        rows.append(dict(model=name, height=size[0], width=size[1],
                         **measure_complexity(build_on_meta(cfg), size)))
    out = Path(out)
    write_table(out / 'complexity.csv', rows)
    _draw(rows, out / 'complexity.png')
    return '\n'.join(map(_sentence, rows))


LOCAL_AGGREGATIONS = {
    'baseline': None,
    'AvgPool 3x3': dict(mode='avg_pool', kernel_size=3),
    'AvgPool 5x5': dict(mode='avg_pool', kernel_size=5),
    'Conv 3x3': dict(mode='conv', kernel_size=3),
    'Conv 5x5': dict(mode='conv', kernel_size=5),
    'TAP, multi-kernel': dict(mode='multi_kernel', num_branches=4),
    'TAP': dict(num_branches=4),
}
"""The rows of the TAP & ADL paper's table 1, and ``tap`` of the backbone for each."""


def local_aggregations(name: str, cfg: Config) -> list[tuple[str, Config]]:
    """A model without and with each local aggregation of the TAP & ADL paper's table 1.

    Args:
        name (str): What to call the model.
        cfg (Config): Its config; the backbone takes ``tap``.

    Raises:
        ValueError: If it takes none.
    """
    if not _takes_tap(cfg):
        raise ValueError(f'the backbone of {name} takes no local aggregation (tap): give a config '
                         'of FAN, RVT or another backbone that does')
    variants = []
    for label, tap in LOCAL_AGGREGATIONS.items():
        own = copy.deepcopy(cfg)
        own.model.backbone['tap'] = tap
        variants.append((f'{name}, {label}', own))
    return variants


def _takes_tap(cfg: Config) -> bool:
    kind = (cfg.model.get('backbone') or {}).get('type')
    if isinstance(kind, str):
        with own_scope(cfg):
            kind = MODELS.get(kind)
    return kind is not None and 'tap' in inspect.signature(kind).parameters


def _sentence(row: dict[str, Any]) -> str:
    text = (f'{row["model"]} at {row["height"]} x {row["width"]}: '
            f'{row["parameters"] / 1e6:.2f}M parameters, {row["operations"] / 1e9:.2f} GFLOPs')
    for part, name in (('attention', 'self-attention'), ('tap', 'TAP')):
        if row[f'{part}_operations'] is not None:
            formula = row[f'{part}_formula']
            name = 'local aggregation' if formula is None else name
            text += (f'; {name} {row[f"{part}_parameters"] / 1e6:.2f}M, '
                     f'{row[f"{part}_operations"] / 1e9:.3f} GFLOPs '
                     f'({row[f"{part}_operations"] / row["operations"]:.2%}'
                     + ('' if formula is None else f'; paper\'s formula {formula / 1e9:.3f}')
                     + ')')
    return text


def _draw(rows: list[dict[str, Any]], path: Path) -> None:
    figure, axes = new_figure(6.4, 0.32 * len(rows) + 1.3, columns=2, sharey=True)
    for axis, (key, unit, label) in zip(axes[0], (
            ('parameters', 1e6, 'parameters (millions)'),
            ('operations', 1e9, 'GFLOPs (multiply-adds)')), strict=True):
        start = [0.] * len(rows)
        parts = {'TAP or its alternative': [row[f'tap_{key}'] or 0 for row in rows],
                 'self-attention': [row[f'attention_{key}'] or 0 for row in rows]}
        parts['the rest'] = [row[key] - sum(values) for row, *values in
                             zip(rows, *parts.values(), strict=True)]
        for colour, (part, values) in zip(('#BBBBBB', COLOURS[0], COLOURS[1]),
                                          reversed(parts.items()), strict=True):
            values = [value / unit for value in values]
            axis.barh(range(len(rows)), values, left=start, color=colour, label=part, height=0.7)
            start = [a + b for a, b in zip(start, values, strict=True)]
        for place, total in enumerate(start):
            axis.text(total, place, f' {total:.1f}', va='center', fontsize=SIZES['tick'])
        axis.set_xlim(0, 1.18 * max(start))
        axis.set_xlabel(label, fontsize=SIZES['label'])
        axis.grid(False, axis='y')
        axis.grid(True, axis='x', linewidth=0.4, alpha=0.5)
    axes[0, 0].set_yticks(range(len(rows)), [row['model'] for row in rows],
                          fontsize=SIZES['label'])
    axes[0, 0].invert_yaxis()
    legend_below(figure, axes[0, 0].get_legend_handles_labels()[0], 3)
    save_figure(figure, path)
