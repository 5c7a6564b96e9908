"""Stochastic depth that treats a corrupted image and its clean twin alike."""
import torch
from torch import Tensor, nn


class MatchedDropPath(nn.Module):
    """Drop path whose draws are the same in both halves of the batch.

    Args:
        drop_prob (float): Probability that a sample loses the residual branch.
    """

    def __init__(self, drop_prob: float):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        """(2B, ...) to (2B, ...)."""
        if not self.training:
            return x
        keep_prob = 1 - self.drop_prob
        pairs = torch.rand((len(x) + 1) // 2, device=x.device) < keep_prob
        factor = pairs.repeat(2)[:len(x)].to(x.dtype) / keep_prob
        return x * factor.view(-1, *[1] * (x.ndim - 1))


def match_drop_paths(module: nn.Module) -> None:
    """Replace every drop path within a module by a :class:`MatchedDropPath`."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child).__name__ == 'DropPath' and child.drop_prob:
                setattr(parent, name, MatchedDropPath(child.drop_prob))
