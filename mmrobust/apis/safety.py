"""What keeps a run from losing work: our checkpoints and loops, its work dir, how it is resumed."""
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmrobust.checkpoints import latest_checkpoint
from mmrobust.engine.stop_hook import SaveOnStopHook
from mmrobust.utils.lock import locked
from mmrobust.utils.processes import end_with_launcher

# MMEngine's classes, and ours in their place
HOOK = ('CheckpointHook', 'SafeCheckpointHook')
LOOPS = {'IterBasedTrainLoop': 'ResumableIterBasedTrainLoop',
         'EpochBasedTrainLoop': 'ResumableEpochBasedTrainLoop'}


def make_safe(cfg: Config) -> None:
    """Let a config train with our checkpoint hook and loops where it has MMEngine's.

    Runners of another type, which save and loop in their own way, stay as they are.
    """
    if cfg.get('runner_type', 'Runner') != 'Runner':
        return
    hooks = cfg.get('default_hooks') or {}
    cfg.default_hooks = {**hooks, 'checkpoint': _safe_hook(
        hooks.get('checkpoint', dict(type=HOOK[0])))}
    cfg.custom_hooks = [_safe_hook(hook) for hook in cfg.get('custom_hooks') or []]
    if cfg.get('val_cfg') is not None and _name(cfg.val_cfg.get('type', 'ValLoop')) == 'ValLoop':
        cfg.val_cfg = {**cfg.val_cfg, 'type': 'RepeatableValLoop'}
    loop = dict(cfg.train_cfg)
    if 'type' not in loop and 'by_epoch' in loop:
        loop['type'] = 'EpochBasedTrainLoop' if loop.pop('by_epoch') else 'IterBasedTrainLoop'
    loop['type'] = LOOPS.get(_name(loop.get('type')), loop.get('type'))
    if loop['type'] is not None:
        cfg.train_cfg = loop


def _safe_hook(hook: dict | None) -> dict | None:
    return {**hook, 'type': HOOK[1]} if hook and _name(hook.get('type')) == HOOK[0] else hook


def _name(kind: object) -> str | None:
    """Name of a class of MMEngine's, given as such or by name."""
    if isinstance(kind, type):
        return kind.__name__ if kind.__module__.startswith('mmengine.') else None
    return str(kind).removeprefix('mmengine.')


def choose_checkpoint(cfg: Config, trust: bool = False) -> None:
    """Name the checkpoint that a resumed training goes on from, and take over its seed.

    Raises:
        FileNotFoundError: If another folder than the work dir is named, and has none.
        ValueError: If there are checkpoints, and none can be read.
    """
    if not cfg.get('resume'):
        return
    folder = cfg.get('load_from') or cfg.work_dir
    if not os.path.isdir(folder) and cfg.get('load_from'):
        folder = None
    found = latest_checkpoint(folder, trust) if folder else None
    if folder and found is None:
        if cfg.get('load_from') and os.path.realpath(folder) != os.path.realpath(cfg.work_dir):
            raise FileNotFoundError(f"--resume: there is no checkpoint in the folder '{folder}': "
                                    'name one of a training, or leave the name out to go on in '
                                    'the work dir')
        print_log(f"There is no checkpoint in '{folder}' yet: the training begins.", 'current')
        cfg.resume, cfg.load_from = False, None
        return
    if found is None:
        return
    cfg.load_from = found.path
    if found.reasons and _is_first():
        print_log(f"Resuming from '{found.path}', because {'; '.join(found.reasons)}",
                  'current', logging.WARNING)
    if found.seed is not None:
        # the order of the samples is drawn before MMEngine reads the seed from the checkpoint
        cfg.randomness = {**(cfg.get('randomness') or {}), 'seed': found.seed}


@contextmanager
def alone_in(folder: str) -> Iterator[None]:
    """The only run in a work dir; of several processes the first speaks for all."""
    with ExitStack() as stack:
        if _is_first():
            stack.enter_context(locked(folder, 'name another --work-dir'))
        end_with_launcher()
        yield


def release(runner: Runner) -> None:
    """Give back what a run took, however it ended.

    Its signals, the workers of its loaders, its open log file, and the figures that MMEngine keeps
    of every run of a process until that ends.
    """
    for loop in (runner._train_loop, runner._val_loop, runner._test_loop):
        loader = getattr(loop, 'dataloader', None)
        workers = getattr(loader, '_iterator', None)  # persistent ones
        if hasattr(workers, '_shutdown_workers'):
            workers._shutdown_workers()
            loader._iterator = None
    for hook in runner.hooks:
        if isinstance(hook, SaveOnStopHook):
            hook.requests.forget()
    for handler in runner.logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.close()  # opens again for a line that comes later
    type(runner.visualizer)._instance_dict.pop(runner.visualizer.instance_name, None)


def _is_first() -> bool:
    """Whether this is the first process of a run, before they know of each other."""
    return not any(int(os.environ.get(name) or 0)
                   for name in ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'))
