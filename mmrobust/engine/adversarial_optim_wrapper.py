"""Two optimizers and one backward: a model and the adversary that lives inside it."""
from functools import cache
from typing import Any

from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS
from torch import nn

# as the authors of AFAT train their corruption model, at a constant rate
ADVERSARY = dict(type='SGD', lr=1e-4, momentum=.9, nesterov=True, weight_decay=.05)


class AdversarialMixin:
    """Steps a second optimizer together with an optimizer wrapper's own.

    It stands in front of the wrapper's class. Schedules, learning-rate scaling, clipping and
    logging see the model's optimizer alone. The adversary shares what must be shared: the
    accumulation counts and the loss scale, by which its gradients are divided before they are
    clipped. Each skips a step in which its own gradients overflow, and either lowers the scale.
    """

    adversary: OptimWrapper

    def step(self, **kwargs: Any) -> None:
        scaler = getattr(self, 'loss_scaler', None)
        if scaler is None:
            self.adversary.step()
            super().step(**kwargs)
            return
        scaler.unscale_(self.adversary.optimizer)
        if self.adversary.clip_grad_kwargs:
            self.adversary._clip_grad()
        scaler.step(self.adversary.optimizer)
        super().step(**kwargs)  # updates the scale, from what both found

    def zero_grad(self, **kwargs: Any) -> None:
        self.adversary.zero_grad(**kwargs)
        super().zero_grad(**kwargs)

    def state_dict(self) -> dict:
        """The model's optimizer state, and the adversary's below ``'adversary'``."""
        return {**super().state_dict(), 'adversary': self.adversary.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        """Load what :meth:`state_dict` gave.

        Raises:
            KeyError: If the adversary's part is missing.
        """
        state_dict = dict(state_dict)
        if 'adversary' not in state_dict:
            raise KeyError("the checkpoint's optimizer state has no 'adversary': it comes from a "
                           'training without one; start from its weights with load_from instead '
                           'of resuming')
        self.adversary.load_state_dict(state_dict.pop('adversary'))
        super().load_state_dict(state_dict)


@cache
def _adversarial_class(wrapper: type) -> type:
    return type(f'Adversarial{wrapper.__name__}', (AdversarialMixin, wrapper), {
        '__doc__': f'{wrapper.__name__} with an adversary.', '__module__': __name__})


@OPTIM_WRAPPER_CONSTRUCTORS.register_module(force=True)
class AdversarialOptimWrapperConstructor:
    """Gives the corruption model of an adversarial feature alignment its own optimizer.

    Added to any ``optim_wrapper`` config, whatever its type::

        optim_wrapper = dict(constructor='AdversarialOptimWrapperConstructor')

    Args:
        optim_wrapper_cfg (dict): The model's own config; its ``adversary`` entry overrides
            single arguments of the adversary's optimizer (by default SGD with learning rate
            1e-4, Nesterov momentum 0.9 and weight decay 0.05) and may hold a ``clip_grad``
            (by default the gradient norm is clipped to 5).
        paramwise_cfg (dict, optional): The model's own.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        self.cfg = dict(optim_wrapper_cfg)
        adversary = dict(self.cfg.pop('adversary', None) or {})
        self.clip_grad = adversary.pop('clip_grad', dict(max_norm=5.))
        # the defaults belong to SGD
        self.adversary = {**(ADVERSARY if adversary.get('type', 'SGD') == 'SGD' else {}),
                          **adversary}
        self.paramwise_cfg = paramwise_cfg

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the wrapper; without an adversary to train, the model's own.

        Raises:
            ValueError: If the model has no ``alignment``.
        """
        model = getattr(model, 'module', model)
        alignment = getattr(model, 'alignment', None)
        if alignment is None:
            raise ValueError(
                f'{type(model).__name__} has no alignment, hence no adversary to train: configure '
                "model = dict(type='RobustModel', alignment=dict("
                "type='AdversarialFeatureAlignment')), or remove this constructor")
        parameters = list(alignment.parameters())
        model.alignment = None  # out of reach of the model's own optimizer
        try:
            wrapper = build_optim_wrapper(model, {**self.cfg, 'paramwise_cfg': self.paramwise_cfg})
        finally:
            model.alignment = alignment
        if parameters:
            wrapper.__class__ = _adversarial_class(type(wrapper))
            wrapper.adversary = OptimWrapper(
                OPTIMIZERS.build(dict(self.adversary, params=parameters)),
                clip_grad=dict(self.clip_grad) if self.clip_grad else None)
            wrapper.adversary.grad_name = 'adversary_grad_norm'
        return wrapper
