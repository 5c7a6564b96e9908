"""Stopping a run without losing it."""
from typing import Any

import torch
import torch.distributed as torch_dist
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mmrobust.utils.processes import Stopped, StopRequests, shield_workers

from .checkpoint_hook import SafeCheckpointHook


@HOOKS.register_module(force=True)
class SaveOnStopHook(Hook):
    """On Ctrl-C, SIGTERM, SIGUSR1 or SIGHUP, finishes the iteration, saves, and ends the run.

    All processes agree on the iteration, whichever of them was asked. A validation, a test or a
    benchmark ends after its batch: what is finished is saved already. A second Ctrl-C ends the
    run at once.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.requests = StopRequests()
        self._group: Any = None
        self._vote: tuple[Any, torch.Tensor] | None = None
        self._batches = 0  # of a validation or test, as many as every process has

    def before_train(self, runner: Runner) -> None:
        self._begin(runner.train_loop.dataloader)

    def after_train(self, runner: Runner) -> None:
        self.requests.forget()

    def before_val_epoch(self, runner: Runner) -> None:
        self._begin(runner.val_loop.dataloader)

    def before_test_epoch(self, runner: Runner) -> None:
        self._begin(runner.test_loop.dataloader)

    def after_test(self, runner: Runner) -> None:
        self.requests.forget()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: Any = None) -> None:
        if self._agreed():
            self._save_and_stop(runner, runner.iter + 1)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                       outputs: Any = None) -> None:
        if batch_idx >= self._batches or not self._agreed():
            return
        if getattr(runner, '_train_loop', None) is None or not hasattr(runner, 'optim_wrapper') \
                or not hasattr(runner._train_loop, 'iter'):
            self._stop(runner, 'Stopped on request: the same command starts again.')
        for hook in runner.hooks:
            if isinstance(hook, EMAHook) and getattr(hook, 'evaluate_on_ema', True):
                hook._swap_ema_parameters()  # the weights of the training, back in the model
        self._save_and_stop(runner, runner.iter)

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                        outputs: Any = None) -> None:
        if batch_idx < self._batches and self._agreed():
            self._stop(runner, 'Stopped on request: the same command goes on with what is not '
                               'finished.')

    def _begin(self, loader: Any) -> None:
        shield_workers(loader)
        self.requests.watch()
        self._batches = len(loader)
        if get_world_size() == 1:
            return
        if self._group is None:
            # of its own, on the CPU: it neither waits for a GPU nor mixes with gradients
            self._group = torch_dist.new_group(backend='gloo')
        least = torch.tensor(self._batches)
        torch_dist.all_reduce(least, torch_dist.ReduceOp.MIN, group=self._group)
        self._batches = int(least)
        self._vote = None

    def _agreed(self) -> bool:
        """Whether any process was asked to stop, as of the last iteration of all of them.

        The answer is awaited one iteration later, so that nobody waits for it.
        """
        if self._group is None:
            return self.requests.pending
        previous, flag = self._vote, torch.tensor(int(self.requests.pending))
        self._vote = torch_dist.all_reduce(flag, torch_dist.ReduceOp.MAX, group=self._group,
                                           async_op=True), flag
        if previous is None:
            return False
        previous[0].wait()
        return bool(previous[1])

    def _save_and_stop(self, runner: Runner, done: int) -> None:
        if self._vote is not None:  # of the iteration in which all stop
            self._vote[0].wait()
        hooks = [hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook)]
        saved = bool(hooks) and hooks[0].save_now(runner)
        self._stop(runner, f'Stopped on request after iteration {done}: the same command with '
                           '--resume continues' + (
                               '.' if saved else ' from the last checkpoint.'))

    def _stop(self, runner: Runner, sentence: str) -> None:
        self.requests.forget()
        if is_main_process():
            # a benchmark's console shows only what is marked as its own
            runner.logger.info(sentence, extra=dict(benchmark=True))
        raise Stopped(sentence)
