"""What token-aware average pooling chose: the weights of its branches, as maps."""
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from torch import Tensor, nn
from tqdm import tqdm

from mmrobust.models.layers.tap import TokenAwareAvgPooling
from mmrobust.utils.figures import COLOURS, SIZES, new_figure, save_figure, show_image
from mmrobust.utils.files import write_table

from .capture import select_layers
from .conditions import CLEAN, Condition
from .maps import spread
from .subject import ImageSource, Subject


@contextmanager
def capture_branch_weights(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Keep the branch weights (B, K, H, W) of every TAP while the model runs.

    Raises:
        ValueError: If the model has no TAP, or one that predicts no weights.
    """
    layers = {name: module for name, module in model.named_modules()
              if isinstance(module, TokenAwareAvgPooling) and hasattr(module, 'predictor')}
    if not layers:
        raise ValueError(
            f'{type(getattr(model, "backbone", model)).__name__} has no token-aware average '
            'pooling with branch weights: give a config with tap=dict(num_branches=...)')
    weights: dict[str, Tensor] = {}

    def record(name: str, module: nn.Module, args: tuple[Tensor]) -> None:
        weights[name] = module.branch_weights(args[0]).detach()

    with ExitStack() as stack:
        for name, module in layers.items():
            stack.callback(module.register_forward_pre_hook(partial(record, name)).remove)
        yield weights


def branch_labels(module: TokenAwareAvgPooling) -> list[str]:
    """What the branches are."""
    if module.mode == 'multi_kernel':
        return ['identity', *(f'{2 * k + 1} x {2 * k + 1}'
                              for k in range(1, module.num_branches))]
    return ['identity', *(f'dilation {k}' for k in range(1, module.num_branches))]


def tap_weights(subject: Subject, out: str | Path, number: int = 3, seed: int = 0,
                condition: Condition | None = None, layers: Sequence[str | int] | None = None,
                file: str | None = None) -> str:
    """Draw which branch each token weighs most, into ``tap_weights.png``, ``.pdf``, ``.csv``.

    Images above each other, layers side by side; below them the mean weights.

    Args:
        subject (Subject): A model with TAP.
        out (str | Path): Folder of the files.
        number (int): How many images.
        seed (int): Which ones.
        condition (Condition, optional): A corruption. Defaults to none.
        layers (Sequence[str | int], optional): Defaults to at most six, evenly spread.
        file (str, optional): An image file instead of test data.

    Returns:
        str: A line of mean weights for each layer.
    """
    source = ImageSource(subject.cfg)
    condition = condition or CLEAN
    images = [file] if file else source.choose(number, seed)
    panels, rows = [], []
    for image in tqdm(images, desc=subject.name, unit='image'):
        data = subject.look(source, image, condition)
        with capture_branch_weights(subject.model) as weights, torch.inference_mode():
            subject.run(data)
        names = list(weights)
        panels.append((source.display(data), [w[0].cpu() for w in weights.values()]))
        for position, (name, (maps,)) in enumerate(weights.items()):
            shares = maps.argmax(0).flatten().bincount(minlength=len(maps)) / maps[0].numel()
            labels = branch_labels(subject.model.get_submodule(name))
            rows += [dict(image=source.name(image),
                          condition=str(condition), layer=name, position=position, branch=label,
                          mean_weight=float(mean), share_of_tokens=float(share))
                     for label, mean, share in zip(labels, maps.mean((1, 2)), shares,
                                                   strict=True)]
    chosen = spread(names) if layers is None else select_layers(names, layers)
    labels = list(dict.fromkeys(row['branch'] for row in rows))
    out = Path(out)
    write_table(out / 'tap_weights.csv', rows)
    _draw(panels, [names.index(name) for name in chosen], labels, rows, str(condition),
          out / 'tap_weights.png')
    return '\n'.join(f'{name}: ' + ', '.join(
        f'{label} {_mean(rows, position, label):.3f}' for label in labels)
        for position, name in enumerate(names))


def _mean(rows: list[dict[str, Any]], position: int, label: str) -> float:
    return float(np.mean([row['mean_weight'] for row in rows
                          if row['position'] == position and row['branch'] == label]))


def _draw(panels: list[tuple[np.ndarray, list[Tensor]]], positions: list[int],
          labels: list[str], rows: list[dict[str, Any]], condition: str, path: Path) -> None:
    height, width = panels[0][0].shape[:2]
    columns = len(positions) + 1
    cell = 1.7
    figure, axes = new_figure(cell * columns, (cell * height / width + 0.08) * len(panels) + 1.9,
                              len(panels) + 1, columns,
                              height_ratios=[cell * height / width] * len(panels) + [1.2])
    colours = ['#000000', *COLOURS][:len(labels)]
    for row, (image, weights) in enumerate(panels):
        line = axes[row]
        show_image(line[0], image, '' if row else condition)
        for axis, position in zip(line[1:], positions, strict=True):
            best = weights[position].argmax(0).numpy().astype(np.uint8)
            best = cv2.resize(best, (width, height), interpolation=cv2.INTER_NEAREST)
            show_image(axis, best, '' if row else f'layer {position}',
                       cmap=ListedColormap(colours), vmin=-0.5, vmax=len(labels) - 0.5,
                       interpolation='nearest')
    axes[-1, 0].set_visible(False)
    for axis, position in zip(axes[-1, 1:], positions, strict=True):
        axis.bar(range(len(labels)), [_mean(rows, position, label) for label in labels],
                 color=colours)
        axis.set_xticks([])
        axis.set_ylim(0, 1)
        if position != positions[0]:
            axis.set_yticklabels([])
    axes[-1, 1].set_ylabel('mean weight', fontsize=SIZES['label'])
    figure.legend(handles=[Patch(color=colour, label=label)
                           for colour, label in zip(colours, labels, strict=True)],
                  title='largest weight', title_fontsize=SIZES['legend'],
                  fontsize=SIZES['legend'], frameon=False, loc='outside lower center',
                  ncols=len(labels))
    save_figure(figure, path)
