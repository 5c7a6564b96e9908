"""MMEngine's training loops, resumable at any iteration with the data that would have come."""
from collections.abc import Iterator
from typing import Any

from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner, ValLoop

from .numbered_data import batches_from, endless_batches, numbered


class _Waiting:
    """Stands for the loader while a loop is built: older loops start its workers at once."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _build(runner: Runner, dataloader: Any) -> Any:
    if not isinstance(dataloader, dict):
        return dataloader
    return runner.build_dataloader(
        numbered(dataloader, runner.seed), seed=runner.seed,
        diff_rank_seed=runner._randomness_cfg.get('diff_rank_seed', False))


@LOOPS.register_module(force=True)
class ResumableIterBasedTrainLoop(IterBasedTrainLoop):
    """MMEngine's loop over iterations; resumed, it goes on with the next batch.

    A sample's augmentation depends on the seed and its number only, not on the worker that made
    it or on how often the run was interrupted.
    """

    def __init__(self, runner: Runner, dataloader: Any, *args: Any, **kwargs: Any) -> None:
        loader = _build(runner, dataloader)
        super().__init__(runner, _Waiting(loader.dataset), *args, **kwargs)
        self.dataloader = loader
        self.dataloader_iterator = None

    def run(self) -> Any:
        """Train."""
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        start = 0 if getattr(self, 'fast_forward_on_resume', False) else self._iter
        self.dataloader_iterator = endless_batches(self.dataloader, start)
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(self.dataloader_iterator))
            self._decide_current_val_interval()
            if validation_is_due(self.runner):
                self.runner.val_loop.run()
        self.dataloader_iterator.close()
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model


@LOOPS.register_module(force=True)
class ResumableEpochBasedTrainLoop(EpochBasedTrainLoop):
    """MMEngine's loop over epochs; resumed within one, it goes on with the next batch.

    See :class:`ResumableIterBasedTrainLoop`.
    """

    def __init__(self, runner: Runner, dataloader: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(runner, _build(runner, dataloader), *args, **kwargs)

    def run_epoch(self) -> None:
        """Train for what is left of one epoch."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        first = max(0, self._iter - self._epoch * len(self.dataloader))
        for index, batch in enumerate(batches_from(self.dataloader, self._epoch, first), first):
            self.run_iter(index, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


@LOOPS.register_module(force=True)
class RepeatableValLoop(ValLoop):
    """MMEngine's validation; what its data draw is the same every time, in any worker.

    So a validation that is repeated after an interruption comes to the same score.
    """

    def __init__(self, runner: Runner, dataloader: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(runner, _build(runner, dataloader), *args, **kwargs)


def validation_is_due(runner: Runner) -> bool:
    """Whether a validation follows what was trained so far."""
    loop = runner.train_loop
    if isinstance(loop, IterBasedTrainLoop):
        done, end = loop.iter, loop.max_iters
    elif loop.iter == loop.epoch * len(loop.dataloader):
        done, end = loop.epoch, loop.max_epochs
    else:  # within an epoch
        return False
    return runner.val_loop is not None and done >= loop.val_begin and (
        done % loop.val_interval == 0 or done == end)
