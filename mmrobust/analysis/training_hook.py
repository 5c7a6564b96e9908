"""Attention statistics as training curves."""
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from .capture import attention_layers, capture_attention, select_layers
from .statistics import STATISTICS, attention_statistics


@HOOKS.register_module(force=True)
class AttentionStatisticsHook(Hook):
    """Logs statistics of attention during training, to whatever the visualizer writes to.

    Every ``interval`` iterations, and after the first one, the model runs in evaluation mode over
    some images of the current batch, one by one. Training itself is not touched: neither its
    random numbers nor its gradients nor running statistics. The means over images and layers are
    logged as ``attention/adl``, ``attention/head_similarity``, ... beside the losses.

    Args:
        interval (int): Iterations from one measurement to the next. Defaults to 100.
        num_images (int): Images of each measurement. Defaults to 2.
        statistics (Sequence[str]): Any of :data:`~.statistics.STATISTICS`.
        layers (Sequence[str | int], optional): Names or positions of layers. Defaults to all.
        per_layer (bool): Log every layer too, as ``attention/adl/3``. Defaults to False.

    Raises:
        ValueError: If a statistic is unknown, or, when training begins, the model has no
            attention or no such layer.
    """

    priority = 'NORMAL'  # before the logger

    def __init__(self, interval: int = 100, num_images: int = 2,
                 statistics: Sequence[str] = ('adl', 'head_similarity', 'row_entropy'),
                 layers: Sequence[str | int] | None = None, per_layer: bool = False):
        if unknown := [name for name in statistics if name not in STATISTICS]:
            raise ValueError(f"unknown attention statistic '{unknown[0]}': choose from "
                             f'{", ".join(STATISTICS)}')
        self.interval = interval
        self.num_images = num_images
        self.statistics = tuple(statistics)
        self.layers = layers
        self.per_layer = per_layer

    def before_train(self, runner: Runner) -> None:
        self._names = select_layers(list(attention_layers(_unwrapped(runner))), self.layers)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: dict | None = None) -> None:
        due = self.every_n_train_iters(runner, self.interval) or runner.iter == 0
        if not due or not is_main_process():
            return
        measured = self._measure(_unwrapped(runner), data_batch)  # (statistics, layers)
        for name, values in zip(self.statistics, measured, strict=True):
            runner.message_hub.update_scalar(f'train/attention/{name}', values.nanmean().item())
            if self.per_layer:
                for i, value in enumerate(values):
                    runner.message_hub.update_scalar(f'train/attention/{name}/{i}', value.item())

    @torch.no_grad()
    def _measure(self, model: torch.nn.Module, data_batch: dict) -> torch.Tensor:
        modes = [(module, module.training) for module in model.modules()]
        model.eval()
        measured = []
        try:
            for i in range(min(self.num_images, len(data_batch['inputs']))):
                one = {key: value[i:i + 1] for key, value in data_batch.items()}
                one = model.data_preprocessor(one, False)
                with capture_attention(model, self._names) as captured:
                    model(one['inputs'], one.get('data_samples'), mode='tensor')
                found = [attention_statistics(captured[name]) for name in self._names]
                measured.append(torch.stack([torch.cat([layer[name] for layer in found])
                                             for name in self.statistics]))
        finally:
            for module, mode in modes:
                module.training = mode
        return torch.stack(measured).nanmean(0)


def _unwrapped(runner: Runner) -> torch.nn.Module:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
