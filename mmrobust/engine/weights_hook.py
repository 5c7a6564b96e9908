"""Noticing a checkpoint of another model before its numbers are believed."""
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, Runner

from mmrobust.checkpoints import check_values, load_weights, shares_weights


@HOOKS.register_module(force=True)
class CheckWeightsHook(Hook):
    """Loads the weights of a checkpoint, or says why they are not those of the model.

    MMEngine only warns about what does not fit and goes on with random values. See
    :func:`mmrobust.checkpoints.load_weights`.

    Args:
        partial (bool): Let a training start from a checkpoint that fits in part, as fine-tuning
            does, as long as anything fits. A training that goes on, and a test, which may have the
            config that a training left behind, need every weight. Defaults to False.
        unused (Iterable[str]): Beginnings of names of further weights that may be left out.
    """

    priority = 'VERY_HIGH'  # before others make use of the checkpoint

    def __init__(self, partial: bool = False, unused: Iterable[str] = ()):
        self.partial = partial
        self.unused = unused

    def before_train(self, runner: Runner) -> None:
        """See that parts that name a checkpoint (init_cfg) got weights of it.

        Raises:
            ValueError: If one of them has none.
        """
        if runner._load_from or runner._resume:
            return  # other weights took their place
        for name, module in runner.model.named_modules():
            given = getattr(module, 'init_cfg', None)
            for init in given if isinstance(given, (list, tuple)) else [given]:
                if not isinstance(init, Mapping) or init.get('type') != 'Pretrained':
                    continue
                if shares_weights(module, str(init.get('checkpoint'))) is False:
                    prefix = f" below prefix='{init['prefix']}'" if init.get('prefix') else ''
                    raise ValueError(
                        f"nothing of '{init['checkpoint']}'{prefix} fits {name or 'the model'} "
                        f'({type(module).__name__}), which would train from random weights: '
                        "correct checkpoint and prefix of its init_cfg (prefix='backbone.' for the "
                        'backbone of a whole model), or leave it out')

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Load the weights; MMEngine then does so once more.

        Raises:
            ValueError: If the checkpoint is of another architecture, has values that are not
                finite, or lacks what a run needs to go on.
        """
        where = f"'{runner._load_from}'" if runner._load_from else 'the checkpoint'
        if runner._resume:
            if not {'state_dict', 'meta', 'message_hub'} <= set(checkpoint):
                raise ValueError(f'{where} holds weights only, a run cannot go on from it: start '
                                 'one from it with --cfg-options load_from=...')
            check_values(checkpoint.get('ema_state_dict', {}), where)
            for state in _states(checkpoint.get('optimizer')):
                check_values(state, f'the optimizer state of {where}')
        model = runner.model
        while is_model_wrapper(model):  # other hooks know the weights by the names within
            model = model.module
        # what trains has built its loop by then, of the others there is at most the config
        starts = isinstance(runner._train_loop, BaseLoop) and not runner._resume
        weights = load_weights(model, checkpoint, self.partial and starts, where, self.unused)
        if 'state_dict' in checkpoint:
            checkpoint['state_dict'] = weights


def _states(optimizer: Any) -> Iterator[dict]:
    """The state of every parameter in the state of an optimizer, or of several."""
    if isinstance(optimizer, Mapping):
        states = optimizer.get('state')
        parts = states.values() if isinstance(states, Mapping) else optimizer.values()
        for part in parts:
            if isinstance(states, Mapping):
                yield part
            else:
                yield from _states(part)
