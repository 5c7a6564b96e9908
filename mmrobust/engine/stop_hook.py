"""Stopping a training run without losing it."""
import signal
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop, Runner


@HOOKS.register_module(force=True)
class SaveOnStopHook(Hook):
    """On the first Ctrl-C or SIGTERM, finishes the iteration, saves, and ends the run.

    Runs that count epochs cannot be resumed within one, so they end at the checkpoint of their
    last whole epoch. A second signal ends the run at once.
    """

    priority = 'VERY_LOW'
    signals = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        self._stopping = False
        self._previous = {}

    def before_train(self, runner: Runner) -> None:
        self._previous = {s: signal.signal(s, self._request) for s in self.signals}

    def after_train(self, runner: Runner) -> None:
        self._restore()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None,
                         outputs=None) -> None:
        if not self._stopping:
            return
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            name = f'iter_{runner.iter + 1}.pth'
            runner.save_checkpoint(runner.work_dir, name, by_epoch=False)
            if is_main_process():
                folder = Path(runner.work_dir)
                (folder / 'last_checkpoint').write_text(str(folder / name))
        runner.logger.info('Stopped on request: the same command with --resume continues.')
        raise KeyboardInterrupt

    def _request(self, signum: int, frame) -> None:
        self._stopping = True
        self._restore()

    def _restore(self) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous = {}
