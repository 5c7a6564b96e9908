"""Training objectives of ours for any OpenMMLab model, with one config entry."""
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cache
from typing import Any, Protocol

from mmengine.registry import MODELS
from torch import Tensor, nn

HostLoss = Callable[..., dict[str, Tensor]]
"""The host's losses of the batch, or of other images with the same labels."""


class Objective(Protocol):
    """What a robust model learns besides what its host does."""

    def around(self, model: nn.Module, inputs: Tensor) -> AbstractContextManager[Any]:
        """The context in which the host computes its losses of the batch."""

    def losses(self, model: nn.Module, seen: Any, host_loss: HostLoss) -> dict[str, Tensor]:
        """Losses of its own, from what the context gave."""


class AugmentedPass:
    """The host's losses on augmented images, in training, as ``augmented_...``.

    Args:
        augmentation (nn.Module): From a batch of images to another.
    """

    def __init__(self, augmentation: nn.Module):
        self.augmentation = augmentation

    def around(self, model: nn.Module, inputs: Tensor) -> AbstractContextManager[Tensor]:
        return nullcontext(inputs)

    def losses(self, model: nn.Module, inputs: Tensor, host_loss: HostLoss) -> dict[str, Tensor]:
        if not model.training:
            return {}
        return {f'augmented_{name}': value
                for name, value in host_loss(self.augmentation(inputs)).items()}


class RobustModelMixin:
    """Adds robust training objectives to a model that has ``loss(inputs, data_samples)``.

    It stands in front of the host's class in the bases of a class made by :func:`RobustModel`.
    Parameters, state-dict keys and inference are the host's own; what an objective learns lies
    beside them, under the objective's name.
    """

    diversification: nn.Module | None
    alignment: nn.Module | None
    augmentation: nn.Module | None
    _pass = None  # what features go through while an objective wants that

    @property
    def objectives(self) -> list[Objective]:
        """In the order of their losses; the context of the first is the innermost."""
        augmented = None if self.augmentation is None else AugmentedPass(self.augmentation)
        return [objective for objective in (self.diversification, self.alignment, augmented)
                if objective is not None]

    def loss(self, inputs: Tensor, data_samples: list, *args, **kwargs) -> dict[str, Tensor]:
        """The host's losses and those of the configured objectives.

        ``loss_adl`` is the attention diversification of the clean images, ``loss_alignment`` the
        distance to the corrupted ones, and ``augmented_...`` the host's losses on augmented ones.

        Raises:
            ValueError: If a diversification loss is configured and no attention reported.
        """
        def host_loss(images: Tensor = inputs) -> dict[str, Tensor]:
            return super(RobustModelMixin, self).loss(images, data_samples, *args, **kwargs)

        objectives = self.objectives
        with ExitStack() as stack:
            seen = [stack.enter_context(objective.around(self, inputs))
                    for objective in reversed(objectives)]
            losses = dict(host_loss())
        for objective in objectives:
            losses |= objective.losses(self, seen.pop(), host_loss)
        return losses

    def extract_feat(self, inputs: Tensor, *args, **kwargs) -> Any:
        """The host's features."""
        extract = super().extract_feat
        if self._pass is None:
            return extract(inputs, *args, **kwargs)
        return self._pass.features(extract, inputs, *args, **kwargs)

    @contextmanager
    def passing(self, through: Any) -> Iterator[None]:
        """Let features go through an object with ``features(extract, inputs)`` and, for what is
        noted on the way, ``of_clean_images(notes)``."""
        self._pass = through
        try:
            yield
        finally:
            del self._pass

    def of_clean_images(self, notes: Any) -> Any:
        """The part of tensors (B or more, ...), however nested, that belongs to the batch."""
        return notes if self._pass is None else self._pass.of_clean_images(notes)


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


def _check_trained(model: nn.Module) -> None:
    backbone = getattr(model, 'backbone', model)
    parameters = list(backbone.parameters())
    if parameters and not any(p.requires_grad for p in parameters):
        raise ValueError(
            f'attention is to be diversified, but all of {type(backbone).__name__} is frozen, so '
            'that the loss would train nothing: freeze fewer blocks, train its token-aware pooling '
            "(tune='tap' of DINOv2 and DINOv3), or leave the diversification out")


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
        ValueError: If there is nothing to align in the backbone, or nothing that could be trained
            to diversify attention.
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
    if model.diversification is not None:
        _check_trained(model)
    if model.alignment is not None:
        model.alignment.prepare(model.backbone)
    if hasattr(model.augmentation, 'prepare'):
        model.augmentation.prepare(model.data_preprocessor)
    return model
