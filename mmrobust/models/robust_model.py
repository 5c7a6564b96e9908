"""Training objectives of ours for any OpenMMLab model, with one config entry."""
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

from mmengine.registry import MODELS
from torch import Tensor, nn

from mmrobust.models.alignment import batch_half


class RobustModelMixin:
    """Adds robust training objectives to a model that has ``loss(inputs, data_samples)``.

    It stands in front of the host's class in the bases of a class made by :func:`RobustModel`.
    Parameters, state-dict keys and inference are the host's own; what an objective learns lies
    beside them, under the objective's name.
    """

    diversification: nn.Module | None
    alignment: nn.Module | None
    augmentation: nn.Module | None
    _joint = None  # the pass of corrupted and clean images, while one is under way

    def loss(self, inputs: Tensor, data_samples: list, *args, **kwargs) -> dict[str, Tensor]:
        """The host's losses and those of the configured objectives.

        ``loss_adl`` is the attention diversification of the clean images, ``loss_alignment`` the
        distance to the corrupted ones, and ``augmented_...`` the host's losses on augmented ones.

        Raises:
            ValueError: If a diversification loss is configured and no attention reported.
        """
        def host_loss(images: Tensor = inputs) -> dict[str, Tensor]:
            return super(RobustModelMixin, self).loss(images, data_samples, *args, **kwargs)

        records, joint = None, None
        with ExitStack() as stack:
            if self.diversification is not None:
                records = stack.enter_context(self.diversification.listen())
            if self.alignment is not None and self.training:
                joint = stack.enter_context(self._joint_pass(inputs))
            losses = dict(host_loss())
            if (joint is not None and joint.learns
                    and self.alignment.objective == 'cross_entropy'):
                with joint.showing_corrupted():
                    objective, _ = self.parse_losses(host_loss())
                losses['corrupted_objective'] = objective.detach()
                losses['loss_adversary'] = joint.ascent(objective, unit=2. ** 10)
        if records is not None:
            losses['loss_adl'] = self._diversification_loss(records, joint is not None)
        if joint is not None:
            losses['loss_alignment'] = self.alignment(joint)
        if self.augmentation is not None and self.training:
            losses |= {f'augmented_{name}': value
                       for name, value in host_loss(self.augmentation(inputs)).items()}
        return losses

    def extract_feat(self, inputs: Tensor, *args, **kwargs) -> Any:
        """The host's features."""
        extract = super().extract_feat
        if self._joint is None:
            return extract(inputs, *args, **kwargs)
        return self._joint.features(extract, inputs, *args, **kwargs)

    @contextmanager
    def _joint_pass(self, inputs: Tensor) -> Iterator:
        with self.alignment.joint_pass(self, inputs) as self._joint:
            try:
                yield self._joint
            finally:
                del self._joint

    def _diversification_loss(self, records: list, clean_half: bool) -> Tensor:
        if not records:
            raise ValueError(
                f'{type(self.diversification).__name__} is configured, but no self-attention of '
                f'{type(getattr(self, "backbone", self)).__name__} reports to it: use a backbone '
                'of mmrobust, such as FAN, RVT or the TAP version of the host library\'s')
        if clean_half:
            records = batch_half(records, 1)
        return self.diversification(records)


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
                alignment: dict | None = None, augmentation: dict | None = None,
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
        alignment (dict, optional): Config of an :class:`AdversarialFeatureAlignment`.
            Defaults to None.
        augmentation (dict, optional): Config of a module, such as :class:`PatchAugmentation`,
            that augments the batch for a second pass, to which only the host's own losses apply.
            Its ``prepare(data_preprocessor)``, if any, is called with the model's.
            Defaults to None.
        **host_cfg: The host's own config.

    Raises:
        KeyError: If the host is not registered.
        ValueError: If there is nothing to align in the backbone.
    """
    with MODELS.switch_scope_and_registry(None) as registry:
        host_class = registry.get(host)
    if host_class is None:
        raise KeyError(f"RobustModel: host='{host}' is not a registered model: name it with its "
                       "scope, such as 'mmseg.EncoderDecoder', and install its library")
    model = _robust_class(host_class)(**host_cfg)
    for name, cfg in dict(diversification=diversification, alignment=alignment,
                          augmentation=augmentation).items():
        setattr(model, name, MODELS.build(cfg) if cfg else None)
    if model.alignment is not None:
        model.alignment.prepare(model.backbone)
    if hasattr(model.augmentation, 'prepare'):
        model.augmentation.prepare(model.data_preprocessor)
    return model
