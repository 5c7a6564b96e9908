"""Noticing a checkpoint of another model before its numbers are believed."""
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mmrobust.checkpoints import check_fit


@HOOKS.register_module(force=True)
class CheckWeightsHook(Hook):
    """Compares the parameters of a loaded checkpoint with the model's.

    MMEngine only warns about what does not fit and goes on with random values.

    Args:
        partial (bool): Accept a checkpoint that fits in part, as fine-tuning does, as long as
            anything fits. Defaults to False: every parameter must be there.
    """

    def __init__(self, partial: bool = False):
        self.partial = partial

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check before the weights are copied.

        Raises:
            ValueError: If the checkpoint is of another architecture.
        """
        check_fit(getattr(runner.model, 'module', runner.model), checkpoint, self.partial)
