"""Noticing a checkpoint of another model before its numbers are believed."""
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


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
        weights = {name.removeprefix('module.'): value
                   for name, value in checkpoint.get('state_dict', checkpoint).items()}
        model = getattr(runner.model, 'module', runner.model)
        expected = dict(model.named_parameters())
        unfit = [name for name, parameter in expected.items()
                 if name not in weights or weights[name].shape != parameter.shape]
        if unfit and (not self.partial or len(unfit) == len(expected)):
            raise ValueError(
                f'the checkpoint is of another architecture: {len(unfit)} of {len(expected)} '
                f"parameters of the model are missing in it or have another shape, '{unfit[0]}' "
                'first; use the config that it was trained with')
