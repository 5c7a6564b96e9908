"""From an image to tokens: convolutional patch embeddings and the Fourier positional encoding."""
import math

import torch
from torch import Tensor, nn

from .convnext_stem import ConvNeXtStem


class FourierPositionEncoding(nn.Module):
    """Sines and cosines of the true grid position, projected to the width of the tokens (XCiT).

    The wavelengths are a buffer, so a checkpoint brings its own: FAN's classification models and
    the papers' segmentation models differ in them. State dicts without it keep the constructed.

    Args:
        dim (int): Width C of the tokens.
        paired_frequencies (bool): Whether a sine and the next cosine share a wavelength, as in
            FAN's classification models. The papers' segmentation models gave every sine and
            every cosine a wavelength of its own. Defaults to True.
        num_frequencies (int): Channels per axis, even. Defaults to 32.
    """

    def __init__(self, dim: int, paired_frequencies: bool = True, num_frequencies: int = 32):
        super().__init__()
        self.token_projection = nn.Conv2d(2 * num_frequencies, dim, kernel_size=1)
        index = torch.arange(num_frequencies, dtype=torch.float32)
        if paired_frequencies:
            index = 2 * torch.div(index, 2, rounding_mode='floor')
        self.register_buffer('wavelengths', 10000 ** (index / num_frequencies))

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        state_dict.setdefault(f'{prefix}wavelengths', self.wavelengths)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def encode_axis(self, length: int) -> Tensor:
        """Encoding (length, num_frequencies) of the positions along one axis, in float32."""
        position = torch.arange(1, length + 1, dtype=torch.float32,
                                device=self.wavelengths.device)
        position = position / (length + 1e-6) * (2 * math.pi)
        phase = position[:, None] / self.wavelengths.float()
        return torch.stack([phase[:, 0::2].sin(), phase[:, 1::2].cos()], dim=2).flatten(1)

    def forward(self, hw: tuple[int, int]) -> Tensor:
        """Encoding (1, C, H, W) of a grid of H x W tokens."""
        height, width = hw
        rows = self.encode_axis(height)[:, None].expand(-1, width, -1)
        columns = self.encode_axis(width)[None].expand(height, -1, -1)
        grid = torch.cat([rows, columns], dim=-1).permute(2, 0, 1)  # (2F, H, W)
        return self.token_projection(grid[None].to(self.token_projection.weight.dtype))


class ConvPatchEmbed(nn.Module):
    """Patch embedding of 3x3 convolutions of stride 2 (XCiT, FAN-ViT).

    Args:
        in_channels (int): Channels of the image.
        dim (int): Width C of the tokens.
        patch_size (int): Total stride: 4, 8 or 16.
    """

    def __init__(self, in_channels: int, dim: int, patch_size: int = 16):
        super().__init__()
        if patch_size not in (4, 8, 16):
            raise ValueError(f'patch_size={patch_size}: the convolutional patch embedding '
                             'has a stride of 4, 8 or 16')
        self.stride = patch_size
        depth = int(math.log2(patch_size))
        widths = [in_channels] + [dim // 2 ** (depth - 1 - i) for i in range(depth)]
        layers = []
        for i in range(depth):
            layers += [nn.Sequential(
                nn.Conv2d(widths[i], widths[i + 1], 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(widths[i + 1])), nn.GELU()]
        self.proj = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Image to the token map (B, C, H, W) and no intermediate maps."""
        return self.proj(x), []


class HybridEmbed(nn.Module):
    """A truncated ConvNeXt and a strided convolution: total stride 16 (FAN-Hybrid).

    Args:
        in_channels (int): Channels of the image.
        dim (int): Width C of the tokens.
        depths (Sequence[int]): Blocks of the two convolutional stages.
        widths (Sequence[int]): Their widths. Defaults to (128, 256).
        with_cp (bool): Whether to checkpoint the convolutional blocks. Defaults to False.
    """

    stride = 16

    def __init__(self, in_channels: int, dim: int, depths=(3, 3), widths=(128, 256),
                 with_cp: bool = False):
        super().__init__()
        self.backbone = ConvNeXtStem(in_channels, depths, widths, with_cp)
        self.proj = nn.Conv2d(widths[-1], dim, kernel_size=2, stride=2)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Image to the token map (B, C, H, W) and the maps of strides 4 and 8."""
        maps = self.backbone(x)
        return self.proj(maps[-1]), maps
