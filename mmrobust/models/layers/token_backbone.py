"""What the backbones of ours have in common: named architectures, frozen parts, the least image."""
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from mmengine.model import BaseModule
from torch import Tensor, nn


class TokenBackbone(BaseModule):
    """A backbone of transformer blocks behind a patch embedding, ``self.patch_embed``.

    Subclasses set ``frozen_stages`` and say in :meth:`_frozen_modules` what it freezes.
    """

    arch_zoo: ClassVar[Mapping[str, dict[str, Any]]]
    out_types: ClassVar[tuple[str, str]]
    frozen_stages: int

    @classmethod
    def _find_arch(cls, arch: str | dict, known: Iterable[str]) -> dict:
        """The dict of an architecture that is given by its name, or as a dict of known keys."""
        if isinstance(arch, str):
            if arch not in cls.arch_zoo:
                raise ValueError(f"unknown {cls.__name__} arch '{arch}': choose one of "
                                 f'{", ".join(cls.arch_zoo)}, or give a dict')
            return cls.arch_zoo[arch]
        if unknown := arch.keys() - set(known):
            raise ValueError(f'the {cls.__name__} arch dict has '
                             f'{", ".join(sorted(map(str, unknown)))}, which means nothing: known '
                             f'are {", ".join(sorted(known))}')
        return arch

    @classmethod
    def _check_complete(cls, arch: dict, needed: Iterable[str]) -> None:
        if missing := set(needed) - arch.keys():
            raise ValueError(f'the {cls.__name__} arch dict lacks {", ".join(sorted(missing))}')

    @classmethod
    def _check_options(cls, out_type: str, drop_path_rate: float, frozen_stages: int,
                       num_blocks: int) -> None:
        if out_type not in cls.out_types:
            raise ValueError(f"out_type='{out_type}': choose "
                             + ' or '.join(f"'{name}'" for name in cls.out_types))
        if not 0. <= drop_path_rate < 1.:
            raise ValueError(f'drop_path_rate={drop_path_rate} is outside [0, 1)')
        if not -1 <= frozen_stages <= num_blocks:
            raise ValueError(f'frozen_stages={frozen_stages} is outside -1 ... {num_blocks}, '
                             'the number of blocks')

    def _check_image(self, x: Tensor) -> None:
        stride = self.patch_embed.stride
        if min(x.shape[-2:]) < stride:
            raise ValueError(
                f'an image of {x.shape[-2]} x {x.shape[-1]} pixels has no token: '
                f'{type(self).__name__} needs at least {stride} x {stride}; check the crop size '
                'and the resizing of the pipeline')

    def _frozen_modules(self) -> list[nn.Module]:
        raise NotImplementedError

    def _freeze(self) -> None:
        for module in self._frozen_modules():
            module.eval()
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> 'TokenBackbone':
        """Training mode; frozen parts stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        return self
