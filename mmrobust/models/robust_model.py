"""Training objectives of ours for any OpenMMLab model, with one config entry."""
from functools import cache
from typing import Any

from mmengine.registry import MODELS
from torch import Tensor, nn


class RobustModelMixin:
    """Adds robust training objectives to a model that has ``loss(inputs, data_samples)``.

    It stands in front of the host's class in the bases of a class made by :func:`RobustModel`.
    Parameters, state-dict keys and inference are the host's own.
    """

    diversification: nn.Module | None

    def loss(self, inputs: Tensor, data_samples: list, *args, **kwargs) -> dict[str, Tensor]:
        """The host's losses and, if it is configured, ``loss_adl``.

        Raises:
            RuntimeError: If a diversification loss is configured and no attention reported.
        """
        if self.diversification is None:
            return super().loss(inputs, data_samples, *args, **kwargs)
        with self.diversification.listen() as records:
            losses = super().loss(inputs, data_samples, *args, **kwargs)
        if not records:
            raise RuntimeError(
                f'{type(self.diversification).__name__} is configured, but no self-attention of '
                f'{type(getattr(self, "backbone", self)).__name__} reports to it: use a backbone '
                'of mmrobust, such as FAN, RVT or the TAP version of the host library\'s')
        return {**losses, 'loss_adl': self.diversification(records)}


@cache
def _robust_class(host: type) -> type:
    return type(f'Robust{host.__name__}', (RobustModelMixin, host), {
        '__doc__': f'{host.__name__} with robust training objectives.',
        '__module__': __name__,
        '__reduce_ex__': _reduce,
    })


def _reduce(model: nn.Module, protocol: int):
    """Pickle by the host's class, since the class itself has no importable name."""
    return _empty, (type(model).__bases__[1],), model.__dict__


def _empty(host: type) -> nn.Module:
    cls = _robust_class(host)
    return cls.__new__(cls)


@MODELS.register_module(force=True)
def RobustModel(host: str, diversification: dict | None = None,  # noqa: N802
                **host_cfg: Any) -> nn.Module:
    """Build any OpenMMLab model with robust training objectives.

    The result is an instance of the host's class: same parameters, checkpoints and inference.
    In a config, ``type='RobustModel', host='mmseg.EncoderDecoder'`` replaces the host's ``type``
    and the rest stays::

        model = dict(type='RobustModel', host='mmseg.EncoderDecoder',
                     diversification=dict(type='AttentionDiversificationLoss'))

    Args:
        host (str): Registered name of the model, with its scope unless that is the default one.
        diversification (dict, optional): Config of an :class:`AttentionDiversificationLoss`.
            Defaults to None.
        **host_cfg: The host's own config.

    Raises:
        KeyError: If the host is not registered.
    """
    with MODELS.switch_scope_and_registry(None) as registry:
        host_class = registry.get(host)
    if host_class is None:
        raise KeyError(f"RobustModel: host='{host}' is not a registered model: name it with its "
                       "scope, such as 'mmseg.EncoderDecoder', and install its library")
    model = _robust_class(host_class)(**host_cfg)
    model.diversification = MODELS.build(diversification) if diversification else None
    return model
