"""Checkpoints that survive whatever happens while they are written."""
import hashlib
import os
import pickle
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmengine.dist import (
    all_gather_object,
    broadcast_object_list,
    get_world_size,
    is_main_process,
    master_only,
)
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mmrobust.checkpoints import load_foreign, save_checkpoint
from mmrobust.utils.files import (
    remove_abandoned,
    write_bytes_atomically,
    write_text_atomically,
)

from . import random_state
from .loops import ResumableEpochBasedTrainLoop, ResumableIterBasedTrainLoop, validation_is_due

ATOMIC = 'mmrobust_atomic'
# entries of a checkpoint that belong to the processes of a run, one item for each
PROCESSES = 'processes'


class AtomicBackend(LocalBackend):
    """MMEngine's local storage, on which a file is complete or not there."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write beside, flush to the disk, rename."""
        write_bytes_atomically(filepath, obj)


register_backend(ATOMIC, AtomicBackend, force=True)


class _RemoveLater:
    """A storage whose removals wait until what replaces the files is there."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage
        self._paths: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def remove(self, path: str) -> None:
        self._paths.append(path)

    rmtree = remove

    def flush(self, keep: Iterable[str | None] = ()) -> None:
        """Remove what was asked for, less ``keep``."""
        paths, self._paths = self._paths, []
        for path in paths:
            if path in keep:
                continue
            if self._storage.isfile(path):
                self._storage.remove(path)
            elif self._storage.isdir(path):  # of DeepSpeed
                self._storage.rmtree(path)


@HOOKS.register_module(force=True)
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's checkpoint hook, with all its options, that never loses a checkpoint.

    A file is written beside, flushed to the disk and renamed; then ``last_checkpoint`` in the
    same way; then outdated files are deleted. Nothing is written twice or in place.

    A checkpoint also holds the random states of all processes, and gradients in the midst of an
    accumulation. A run that is resumed from it ends with the weights of an undisturbed one,
    which a validation does not disturb either: one that was still to come is made first.

    Args:
        *args, **kwargs: As of ``mmengine.hooks.CheckpointHook``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._processes: list[dict] | None = None  # while a checkpoint is written
        self._resumed: list[dict] | None = None
        self._before_val: dict | None = None
        self._written: int | None = None  # iterations of the last checkpoint
        self._in_validation = False

    # resuming

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self._resumed = checkpoint.get(PROCESSES)

    def before_train(self, runner: Runner) -> None:
        """Prepare the folder, and do what an interrupted run had still to do.

        Raises:
            OSError: If the folder cannot be written, or has no space for one checkpoint.
        """
        folder = self.out_dir or runner.work_dir
        if '://' not in str(folder) and not self.backend_args and not self.file_client_args:
            self.backend_args = dict(backend=ATOMIC)
        if runner.iter:
            self._name_resumed(runner)  # before the outdated ones go, one of which may be named
        super().before_train(runner)
        self.file_backend = _RemoveLater(self.file_backend)
        if self.backend_args == dict(backend=ATOMIC):
            self._alike_on_all(lambda: _check_room(Path(self.out_dir), runner))
            if is_main_process():
                for each in {self.out_dir, runner.work_dir}:
                    remove_abandoned(each)
        if runner.iter == 0:
            self._resumed = None
            return
        self._written = runner.iter
        if self._resumed is not None and len(self._resumed) != get_world_size():
            runner.logger.warning(
                f'The checkpoint is of {len(self._resumed)} processes, this run has '
                f'{get_world_size()}: it is not the same run, and its random numbers differ.')
            self._resumed = None
        if isinstance(runner.train_loop,
                      ResumableIterBasedTrainLoop | ResumableEpochBasedTrainLoop):
            runner.train_loop._decide_current_val_interval()
            if validation_is_due(runner):
                runner.logger.info('The validation that follows the checkpoint is made first.')
                if self._resumed is not None:
                    random_state.restore(self._resumed[runner.rank]['random'])
                runner.val_loop.run()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if self._resumed is None:
            return
        state, self._resumed = self._resumed[runner.rank], None
        random_state.restore(state['random'])
        for name, parameter in _model(runner).named_parameters():
            if name in state.get('gradients', {}):
                parameter.grad = state['gradients'][name].to(parameter)

    @master_only
    def _name_resumed(self, runner: Runner) -> None:
        """Let ``last_checkpoint`` name what the run goes on from: a kill may have come between."""
        pointer, path = Path(runner.work_dir, 'last_checkpoint'), str(runner._load_from or '')
        if Path(path).is_file() and pointer.is_file() and pointer.read_bytes() != path.encode():
            write_text_atomically(pointer, path)

    # saving

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if self._processes is not None:
            checkpoint[PROCESSES] = self._processes

    def save_now(self, runner: Runner) -> bool:
        """Save the present iteration, unless it is saved already.

        Returns:
            bool: Whether there is a checkpoint of it. A loop over epochs that is not ours cannot
            be resumed within one.
        """
        loop, done = runner.train_loop, self._iterations(runner)
        if self._written == done:
            return True
        epochs = not isinstance(loop, ResumableIterBasedTrainLoop) and hasattr(loop, 'run_epoch')
        if epochs and not isinstance(loop, ResumableEpochBasedTrainLoop):
            return False
        meta = dict(epoch=runner.epoch, iter=done)
        if not self.by_epoch:
            self._save(runner, done, meta)
        elif self._in_validation:
            self._save(runner, runner.epoch, meta)
        else:
            # no multiple of an epoch, so it is not one of those that the options speak of
            name = f'iter_{done}.pth'
            path = self.file_backend.join_path(self.out_dir, name)
            runner.message_hub.update_info('interrupted_ckpt', path)
            self._write(runner, name, meta)
        return True

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        # MMEngine would write the same file again, to note a new best score. A resumed run
        # repeats the validation instead, and comes to the same score.
        if not self._in_validation:
            self._save(runner, step, meta)

    def _save(self, runner: Runner, step: int, meta: dict) -> None:
        """Write the checkpoint of a step, and then delete outdated ones."""
        name = self.filename_tmpl.format(step)
        if self.max_keep_ckpts > 0:
            steps = [*(s for s in self.keep_ckpt_ids if s != step), step]
            # with the outdated ones: killed before it deletes them, a resumed run will
            runner.message_hub.update_info('keep_ckpt_ids', steps)
            for outdated in steps[:-self.max_keep_ckpts]:
                self.file_backend.remove(self.file_backend.join_path(
                    self.out_dir, self.filename_tmpl.format(outdated)))
            interrupted = runner.message_hub.runtime_info.get('interrupted_ckpt')
            if interrupted:
                self.file_backend.remove(interrupted)
        self._write(runner, name, meta)
        if self.max_keep_ckpts > 0:
            self.keep_ckpt_ids = deque(steps, self.max_keep_ckpts)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))

    def _write(self, runner: Runner, name: str, meta: dict) -> None:
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        # a validation that is under way has drawn what no training sees
        own = dict(random=self._before_val if self._in_validation else random_state.capture())
        if gradients := _accumulated(runner):
            own['gradients'] = gradients
        self._processes = all_gather_object(own)

        def write() -> None:
            runner.save_checkpoint(
                self.out_dir, name, self.file_client_args, save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler, meta=meta, by_epoch=self.by_epoch,
                backend_args=self.backend_args, **self.args)
            if is_main_process():
                write_text_atomically(Path(runner.work_dir, 'last_checkpoint'), self.last_ckpt)

        try:
            self._alike_on_all(write)
        finally:
            self._processes = None
        self._written = meta['iter']
        if is_main_process():
            self.file_backend.flush(keep=[self.last_ckpt])

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        self._alike_on_all(lambda: super(SafeCheckpointHook, self)._save_best_checkpoint(
            runner, metrics))
        if is_main_process():
            best = getattr(self, 'best_ckpt_path_dict', {}).values()
            self.file_backend.flush(keep=[*best, getattr(self, 'best_ckpt_path', None)])

    def before_val(self, runner: Runner) -> None:
        self._in_validation = True
        self._before_val = random_state.capture()

    def after_val(self, runner: Runner) -> None:
        random_state.restore(self._before_val)
        self._in_validation = False

    @master_only
    def _publish_model(self, runner: Runner, ckpt_path: str) -> None:
        """As MMEngine does, atomically."""
        checkpoint = load_foreign(ckpt_path)
        published = {key: value for key, value in checkpoint.items() if key in self.published_keys}
        digest = hashlib.sha256(pickle.dumps(published)).hexdigest()[:8]
        path = f'{os.path.splitext(ckpt_path)[0]}-{digest}.pth'
        save_checkpoint(published, path)
        runner.logger.info(f'The checkpoint ({ckpt_path}) is published to {path}.')

    def _iterations(self, runner: Runner) -> int:
        """Iterations that are finished; the loop counts the present one after the hooks."""
        return runner.iter + (0 if self._in_validation else 1)

    def _alike_on_all(self, write: Callable[[], None]) -> None:
        """Let all processes fail with the error of the one that writes."""
        error: OSError | None = None
        try:
            write()
        except OSError as caught:
            error = caught
        outcome = [None if error is None else str(error)]
        broadcast_object_list(outcome)
        if outcome[0] is not None:
            kept = self._written and f'; what was saved before is as it was (iteration ' \
                                     f'{self._written}), --resume goes on from there'
            raise OSError(f'{outcome[0]}{kept or ""}') from None


def _model(runner: Runner) -> Any:
    return getattr(runner.model, 'module', runner.model)


def _accumulated(runner: Runner) -> dict[str, Any]:
    """Gradients that wait for the rest of their accumulation, by parameter."""
    wrapper = runner.optim_wrapper
    counts = getattr(wrapper, '_accumulative_counts', 1)
    if counts == 1 or wrapper._inner_count % counts == 0:
        return {}
    return {name: parameter.grad.detach().cpu()
            for name, parameter in _model(runner).named_parameters() if parameter.grad is not None}


def _check_room(folder: Path, runner: Runner) -> None:
    """Raise OSError if the folder cannot take one checkpoint."""
    if not is_main_process():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"'{folder}' cannot be written ({error.strerror}): name another --work-dir, "
                      'or the out_dir of the checkpoint hook') from None
    needed = _checkpoint_size(runner)
    free = shutil.disk_usage(folder).free
    with suppress(ImportError):  # there is none on Windows
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        free = free if limit == resource.RLIM_INFINITY else min(free, limit)
    if free < needed:
        raise OSError(f"'{folder}' has {free / 1e6:.1f} MB left, and one checkpoint needs about "
                      f'{needed / 1e6:.1f} MB: free some space, or name another --work-dir')


def _checkpoint_size(runner: Runner) -> int:
    """About how many bytes a checkpoint has: weights, and what the optimizer keeps of them."""
    def size(tensors: Iterable[Any]) -> int:
        return sum(t.numel() * t.element_size() for t in tensors if hasattr(t, 'numel'))

    optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
    total = size(_model(runner).state_dict().values())
    for group in getattr(optimizer, 'param_groups', ()):
        copies = 2 if 'betas' in group else 1 if group.get('momentum') else 0
        total += copies * size(group['params'])
    return total
