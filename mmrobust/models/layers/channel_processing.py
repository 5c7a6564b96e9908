"""FAN's channel processing: attention over channels with a convolutional MLP as its values."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import check_heads
from .tokens import to_map, to_tokens


class DepthwiseMixing(nn.Module):
    """Depthwise 3x3 convolution, GELU, batch normalisation, depthwise 3x3 convolution, scale.

    Args:
        dim (int): Number of channels.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.act = nn.GELU()
        self.bn = nn.BatchNorm2d(dim)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        """(B, C, H, W) and the scale (C,) of the result to (B, C, H, W)."""
        x = self.bn(self.act(self.conv1(x)))
        # scaling the weights saves a pass over the map, three in backward, and keeping the result
        return F.conv2d(x, self.conv2.weight * scale[:, None, None, None], self.conv2.bias * scale,
                        padding=1, groups=len(scale))


class ConvMLP(nn.Module):
    """MLP whose non-linearity is a scaled residual depthwise mixing of the hidden map.

    Args:
        dim (int): Width C of the tokens.
        hidden_dim (int): Hidden width.
    """

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.dwconv = DepthwiseMixing(hidden_dim)
        self.gamma = nn.Parameter(torch.ones(hidden_dim))
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        """(B, H * W, C) to (B, H * W, C)."""
        hidden = to_map(self.fc1(x), hw)
        return self.fc2(to_tokens(hidden + self.dwconv(hidden, self.gamma)))


class ChannelProcessing(nn.Module):
    """Gates every channel by its affinity with where the tokens of its head are strong (FAN).

    Args:
        dim (int): Width C of the tokens.
        num_heads (int): Number of heads; divides C.
        mlp_ratio (float): Hidden width of the convolutional MLP over C. Defaults to 4.
    """

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4.):
        super().__init__()
        check_heads(dim, num_heads)
        self.num_heads = num_heads
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.mlp_v = ConvMLP(dim, int(dim * mlp_ratio))
        self.norm_v = nn.LayerNorm(dim, eps=1e-6)
        self.q = nn.Linear(dim, dim)

    def gate(self, x: Tensor) -> Tensor:
        """The factor (B, 1, C) of each channel of normalised tokens (B, N, C)."""
        # (B, N, h, c): queries and keys are distributions over the tokens
        queries = self.q(x).softmax(dim=1).unflatten(-1, (self.num_heads, -1))
        keys = x.softmax(dim=1).unflatten(-1, (self.num_heads, -1)).mean(-1, keepdim=True)
        affinity = (queries * keys).sum(1)  # (B, h, c); faster than as a product of matrices
        gate = affinity.sigmoid() * self.temperature.squeeze(-1)  # (B, h, c)
        return gate.flatten(1).unsqueeze(1)

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        """(B, H * W, C) to (B, H * W, C)."""
        return self.gate(x) * self.norm_v(self.mlp_v(x, hw))
