"""The convolutional stem of FAN-Hybrid: the first two stages of a ConvNeXt."""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrobust.ops import depthwise_conv2d, gelu_mlp

from .checkpoint import checkpoint


class ChannelLayerNorm(nn.LayerNorm):
    """Layer normalisation over the channels of a map (B, C, H, W), returned channels-last."""

    def __init__(self, dim: int):
        super().__init__(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias,
                         self.eps)
        return x.permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7 convolution, channel norm and MLP, with a scaled residual.

    Args:
        dim (int): Number of channels.
        layer_scale (float): Initial scale of the residual branch. Defaults to 1e-6.
    """

    def __init__(self, dim: int, layer_scale: float = 1e-6):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), layer_scale))
        self.conv_dw = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = ChannelLayerNorm(dim)
        self.mlp = nn.ModuleDict(dict(fc1=nn.Conv2d(dim, 4 * dim, 1),
                                      fc2=nn.Conv2d(4 * dim, dim, 1)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        fc1, fc2 = self.mlp['fc1'], self.mlp['fc2']
        mixed = depthwise_conv2d(x, self.conv_dw.weight, self.conv_dw.bias)
        mixed = self.norm(mixed).permute(0, 2, 3, 1)
        # scaling the weights saves passes over the map
        mixed = gelu_mlp(mixed, fc1.weight.flatten(1), fc1.bias,
                         self.gamma[:, None] * fc2.weight.flatten(1), self.gamma * fc2.bias)
        return x + mixed.permute(0, 3, 1, 2)


class ConvNeXtStage(nn.Module):
    """An optional halving of the resolution, then blocks."""

    def __init__(self, in_dim: int, dim: int, depth: int, downsample: bool):
        super().__init__()
        self.downsample = nn.Sequential(
            ChannelLayerNorm(in_dim), nn.Conv2d(in_dim, dim, 2, stride=2)
        ) if downsample else nn.Identity()
        self.blocks = nn.ModuleList(ConvNeXtBlock(dim) for _ in range(depth))

    def forward(self, x: Tensor, with_cp: bool) -> Tensor:
        x = self.downsample(x)
        for block in self.blocks:
            x = checkpoint(block, x) if with_cp else block(x)
        return x


class ConvNeXtStem(nn.Module):
    """Stem of stride 4 and stages of strides 4, 8, ...

    Args:
        in_channels (int): Channels of the image.
        depths (Sequence[int]): Blocks per stage.
        widths (Sequence[int]): Width per stage.
        with_cp (bool): Whether to checkpoint the blocks. Defaults to False.
    """

    def __init__(self, in_channels: int, depths: Sequence[int], widths: Sequence[int],
                 with_cp: bool = False):
        super().__init__()
        self.with_cp = with_cp
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, widths[0], 4, stride=4), ChannelLayerNorm(widths[0]))
        self.stages = nn.ModuleList(
            ConvNeXtStage(widths[max(i - 1, 0)], width, depth, downsample=i > 0)
            for i, (depth, width) in enumerate(zip(depths, widths, strict=True)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Image to one map per stage."""
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x, self.with_cp and self.training)
            maps.append(x)
        return maps
