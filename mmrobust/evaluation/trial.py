"""Trying metrics before work depends on them."""
import copy
import logging
import random
import warnings
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.registry import HOOKS

from mmrobust.utils.mistakes import reading


def measuring(metrics: Iterable[Any]) -> list[Any]:
    """Metrics that give numbers, not files."""
    return [metric for metric in metrics if not getattr(metric, 'format_only', False)
            and not hasattr(metric, 'out_file_path')]


def trying(metric: Any, where: str) -> AbstractContextManager:
    return reading(f'the metric {type(metric).__name__} on the answer of the model',
                   f'correct {where}', running=True)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Neither change random numbers, nor log what is only tried."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    loggers = [logger for logger in (MMLogger.get_current_instance(), logging.getLogger())
               if not logger.disabled]
    for logger in loggers:
        logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        for logger in loggers:
            logger.disabled = False
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


@HOOKS.register_module(force=True)
class CheckMetricsHook(Hook):
    """Lets metrics work on the first batch of a test or a validation: they would fail at its end.

    Only those of the host libraries for classes and label maps: others may need all the data.
    """

    priority = 'VERY_LOW'

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None,
                        outputs: Any = None) -> None:
        if not batch_idx and type(runner.test_loop).__name__ != 'CorruptionTestLoop':
            self._try(runner.test_evaluator.metrics, 'test_evaluator')

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None,
                       outputs: Any = None) -> None:
        if not batch_idx:
            self._try(runner.val_evaluator.metrics, 'val_evaluator')

    @staticmethod
    def _try(metrics: Iterable[Any], where: str) -> None:
        for metric in measuring(metrics):
            if type(metric).__module__.startswith(('mmseg.', 'mmpretrain.')):
                with trying(metric, where), undisturbed():
                    trial = copy.deepcopy(metric)
                    trial.compute_metrics(trial.results)
