"""What ``tools/train.py`` and ``tools/test.py`` do with a config."""
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as torch_dist
from mmengine.config import Config, ConfigDict
from mmengine.dist import master_only
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmrobust.checkpoints import guard_loading
from mmrobust.evaluation.benchmark import brings_its_data
from mmrobust.utils.allocator import keep_freed_memory
from mmrobust.utils.mistakes import reading
from mmrobust.utils.processes import end_with_launcher

from .checks import check_environment, check_optional_parts, check_values, require_parts
from .config import adapt_to_cpu, missing_inputs
from .safety import alone_in, choose_checkpoint, make_safe, release


class CarefulRunner(Runner):
    """Leaves the config of the work dir, that of its checkpoints, as it is until it trains.

    MMEngine writes the present one over it at once. Whoever then tests with the config of a work
    dir would run the benchmark that ran last, or what failed before its first iteration.
    """

    _has_trained = False

    @master_only
    def dump_config(self) -> None:
        """Write it into the folder of this run's log."""
        name = Path(self.cfg.filename or 'config.py').with_suffix('.py').name
        self.cfg.dump(str(Path(self.log_dir, name)))

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Once an iteration has succeeded, the work dir is this training's."""
        if fn_name == 'after_train_iter' and not self._has_trained:
            self._has_trained = True
            super().dump_config()
        super().call_hook(fn_name, **kwargs)


# the remedy where a config fits no model or data, which shows only at work
AT_WORK = 'correct the config, or the files it names; report it if both are right'


def train(cfg: Config, trust: bool = False) -> Runner:
    """Train. A run that is interrupted goes on with ``cfg.resume = True`` as if it had not been.

    Our checkpoint hook and loops take the place of MMEngine's. It works in any thread; only the
    main one hears signals.

    Args:
        cfg (Config): Full config.
        trust (bool): Whether checkpoints may run code of their own when loaded.

    Raises:
        FileNotFoundError: If something that the config names is not there.
        OSError: If another run is in the work dir, or it has no space for a checkpoint.
        Stopped: If it was asked to stop, and has saved.
    """
    check_environment()
    require_parts(cfg, 'model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
    check_optional_parts(cfg)
    phases = ('train', 'val') if cfg.get('val_cfg') is not None else ('train',)
    with alone_in(cfg.work_dir), guard_loading(trust), \
            reading(f"training with the config '{cfg.filename}'", AT_WORK, running=True):
        choose_checkpoint(cfg, trust)
        _add_hooks(cfg, dict(type='CheckDataHook'), dict(type='CheckLabelsHook'),
                   dict(type='CheckMetricsHook'), dict(type='SaveOnStopHook'),
                   dict(type='CheckWeightsHook', partial=True))
        make_safe(cfg)
        runner = build_runner(cfg, phases)
        _run(runner, runner.train)
    return runner


def test(cfg: Config, predictions: str | None = None, trust: bool = False) -> dict:
    """Evaluate ``cfg.load_from``, or run the benchmark that the config's test loop describes.

    Args:
        cfg (Config): Full config.
        predictions (str, optional): ``.pkl`` file for the raw predictions.
        trust (bool): Whether the checkpoint may run code of its own when loaded.

    Returns:
        dict: The metrics.
    """
    end_with_launcher()
    require_parts(cfg, 'model', 'test_dataloader', 'test_cfg', 'test_evaluator')
    check_optional_parts(cfg)
    if predictions:
        evaluators = cfg.test_evaluator
        cfg.test_evaluator = [
            *(evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]),
            dict(type='DumpResults', out_file_path=predictions)]
    _add_hooks(cfg, dict(type='CheckDataHook'), dict(type='CheckLabelsHook'),
               dict(type='CheckMetricsHook'), dict(type='SaveOnStopHook'),
               dict(type='CheckWeightsHook'))
    with guard_loading(trust), \
            reading(f"testing with the config '{cfg.filename}'", AT_WORK, running=True):
        runner = build_runner(cfg, ('test',))
        return _run(runner, runner.test)


def _run(runner: Runner, work: Callable[[], Any]) -> Any:
    try:
        return work()
    finally:
        release(runner)


def _add_hooks(cfg: Config, *added: dict) -> None:
    hooks = cfg.get('custom_hooks') or []
    if not isinstance(hooks, (list, tuple)) or not all(isinstance(hook, dict) for hook in hooks):
        raise ValueError(f"the config '{cfg.filename}' has custom_hooks={hooks!r}: it must be a "
                         'list of dicts')
    present = {hook.get('type') for hook in hooks}
    cfg.custom_hooks = [*hooks, *(hook for hook in added if hook['type'] not in present)]


def build_runner(cfg: Config, phases: tuple[str, ...]) -> Runner:
    """A runner that works on this machine, once all that it reads is known to be there."""
    check_environment()
    check_values(cfg, phases)
    with reading(f"the config '{cfg.filename}'"):
        own = [phase for phase in phases if phase != 'test' or not brings_its_data(cfg.test_cfg)]
        problems = list(missing_inputs(cfg, own))
    if problems:
        raise FileNotFoundError('; '.join(problems))
    if not torch.cuda.is_available():
        keep_freed_memory()
        adapt_to_cpu(cfg)
        if cfg.get('launcher', 'none') == 'pytorch' and not torch_dist.is_initialized():
            torch_dist.init_process_group('gloo')
    with reading(f"the config '{cfg.filename}'"):
        if 'runner_type' in cfg:
            return RUNNERS.build(cfg)
        return CarefulRunner.from_cfg(cfg)


def add_test_time_augmentation(cfg: Config) -> None:
    """Average the predictions over the config's ``tta_pipeline``.

    Raises:
        ValueError: If the config of a segmenter has none.
    """
    require_parts(cfg, 'model', 'test_dataloader')
    dataset = cfg.test_dataloader.get('dataset')
    if not isinstance(dataset, dict) or not dataset.get('pipeline'):
        raise ValueError('--tta: test_dataloader.dataset of the config has no pipeline that could '
                         'be changed: test without it')
    if 'tta_pipeline' not in cfg or 'tta_model' not in cfg:
        if cfg.get('default_scope') != 'mmpretrain':
            raise ValueError('--tta: the config has no `tta_pipeline` and `tta_model`: add them, '
                             'or test without it')
        pipeline = copy.deepcopy(dataset.pipeline)
        cfg.tta_pipeline = pipeline[:-1] + [dict(type='TestTimeAug', transforms=[
            [dict(type='RandomFlip', prob=1.), dict(type='RandomFlip', prob=0.)],
            [pipeline[-1]]])]
        cfg.tta_model = dict(type='mmpretrain.AverageClsScoreTTA')
    require_parts(cfg, 'tta_model')
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    dataset.pipeline = cfg.tta_pipeline


def draw_predictions(cfg: Config, folder: str) -> None:
    """Write a picture of every prediction into ``folder``."""
    if cfg.get('default_scope') == 'mmpretrain':
        hook = dict(type='VisualizationHook', enable=True, interval=1, out_dir=folder)
    else:
        hook = dict(type='SegVisualizationHook', draw=True, interval=1)
        cfg.setdefault('visualizer', dict(type='SegLocalVisualizer'))
        require_parts(cfg, 'visualizer')
        cfg.visualizer.setdefault('vis_backends', [dict(type='LocalVisBackend')])
        cfg.visualizer.save_dir = folder
    if cfg.get('default_hooks'):
        require_parts(cfg, 'default_hooks')
    cfg.default_hooks = {**(cfg.get('default_hooks') or {}), 'visualization': hook}
