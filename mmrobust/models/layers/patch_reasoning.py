"""Queries, keys and values that see the neighbouring tokens (the released AFAT models)."""
from torch import Tensor, nn

from .tokens import to_map, to_tokens


class PatchReasoning(nn.Sequential):
    """3x3 convolution to a quarter of the width, ReLU, 1x1 convolution to queries, keys, values.

    It takes the place of the linear layer of a self-attention, so that a corrupted patch is read
    together with its neighbours.

    Args:
        dim (int): Width C of the tokens, at least 4.
    """

    def __init__(self, dim: int):
        super().__init__(
            nn.Conv2d(dim, dim // 4, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(dim // 4, 3 * dim, 1))

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        """(B, H * W, C) to (B, H * W, 3C)."""
        return to_tokens(super().forward(to_map(x, hw)))
