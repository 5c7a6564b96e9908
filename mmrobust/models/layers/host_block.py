"""Token-aware average pooling inside the transformer blocks of the host libraries."""
import torch
from torch import Tensor, nn

from .checkpoint import checkpoint
from .tap import TokenAwareAvgPooling
from .tokens import to_map, to_tokens


def become(module: nn.Module, cls: type) -> None:
    """Make a module of a host's class an instance of our subclass of it, in place.

    Raises:
        TypeError: If the module is of another class than the last base of ours.
    """
    host = cls.__bases__[-1]
    if type(module) is not host:
        raise TypeError(f'{cls.__name__} extends {host.__name__}, not {type(module).__name__}: '
                        'leave that part of the backbone at its default')
    module.__class__ = cls


def pool_patches(tap: nn.Module, x: Tensor, hw: tuple[int, int]) -> Tensor:
    """Tokens (B, E + H * W, C) with the patch tokens pooled and the E first ones as they are."""
    num_extra = x.shape[1] - hw[0] * hw[1]
    extra, patches = x[:, :num_extra], x[:, num_extra:]
    pooled = to_tokens(tap(to_map(patches, hw)))
    return torch.cat([extra, pooled], dim=1) if num_extra else pooled


class TAPBlockMixin:
    """Pools the input of a host block's attention branch.

    It stands in front of the host's class in the bases of our block. Blocks that the host has
    built and initialised become ours with :meth:`adopt`: their configuration, weights and
    state-dict keys stay, and ``tap`` is added. The residual comes from the tokens that were not
    pooled. Subclasses define ``mix(x, pooled, hw)``: the host's block with the tokens of its
    attention branch given.
    """

    @classmethod
    def adopt(cls, block: nn.Module, dim: int, tap: dict | None, with_cp: bool) -> None:
        """Make a host's block ours, in place.

        Args:
            block (nn.Module): Block of the host's class.
            dim (int): Width C of its tokens.
            tap (dict, optional): Arguments of :class:`TokenAwareAvgPooling`; None for no
                pooling.
            with_cp (bool): Whether to recompute activations in backward.
        """
        become(block, cls)
        block.tap = TokenAwareAvgPooling(dim, **tap) if tap is not None else None
        block.with_cp = with_cp

    def pool(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        """Tokens (B, E + H * W, C) with the patch tokens pooled and the E first ones as is."""
        return x if self.tap is None else pool_patches(self.tap, x, hw)

    def run(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        return self.mix(x, self.pool(x, hw), hw)

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        """(B, E + H * W, C) to the same shape."""
        return checkpoint(self.run, x, hw) if self.with_cp and self.training else self.run(x, hw)
