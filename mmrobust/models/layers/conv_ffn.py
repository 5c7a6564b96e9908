"""The two feed-forward networks of RVT."""
from torch import Tensor, nn

from mmrobust.ops import gelu_mlp

from .tokens import to_map, to_tokens


class ConvFFN(nn.Module):
    """Feed-forward network with a depthwise convolution and batch normalisation throughout (RVT).

    1x1 convolution, BN, GELU, depthwise 3x3 convolution, BN, GELU, 1x1 convolution, BN.

    Args:
        dim (int): Width C of the tokens.
        hidden_dim (int): Hidden width.
    """

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden_dim, 1)
        self.bn1 = nn.BatchNorm2d(hidden_dim)
        self.dwconv = nn.Conv2d(hidden_dim, hidden_dim, 3, padding=1, groups=hidden_dim)
        self.bn2 = nn.BatchNorm2d(hidden_dim)
        self.fc2 = nn.Conv2d(hidden_dim, dim, 1)
        self.bn3 = nn.BatchNorm2d(dim)
        self.act = nn.GELU()

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        """(B, H * W, C) to (B, H * W, C)."""
        x = self.act(self.bn1(self.fc1(to_map(x, hw))))
        x = self.act(self.bn2(self.dwconv(x)))
        return to_tokens(self.bn3(self.fc2(x)))


class FFN(nn.Module):
    """Linear, GELU, linear.

    Args:
        dim (int): Width C of the tokens.
        hidden_dim (int): Hidden width.
    """

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        """(B, H * W, C) to (B, H * W, C); the grid does not matter."""
        return gelu_mlp(x, self.fc1.weight, self.fc1.bias, self.fc2.weight, self.fc2.bias)
