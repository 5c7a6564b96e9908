"""The attention of one layer, without keeping a single N x N matrix of it."""
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mmrobust.ops import attention_rows

BLOCK_ENTRIES = 2**23  # of attention that exist at a time: 32 MB in float32
MAX_EXTRA_TOKENS = 4  # class, distillation and registers before the grid, where nobody tells


@dataclass
class AttentionMaps:
    """Queries and keys of one layer, from which attention is computed in blocks of rows.

    Window attention (Swin) keeps its small matrices instead: W windows of every image. Together
    they are one map over the whole image, zero between windows.

    Attributes:
        images (int): Number B of images.
        query (Tensor, optional): (B, h, Nq, d).
        key (Tensor, optional): (B, h, Nk, d).
        scale (float): Factor of the logits.
        logit_mask (Tensor, optional): (h, Nq, Nk), multiplies the logits (RVT).
        bias (Tensor, optional): Added to the logits; broadcasts to (B, h, Nq, Nk).
        weights (Tensor, optional): Attention (B * W, h, Nq, Nk) that the layer computed itself.
        windows (Tensor, optional): (W, Nq), place of each token of each window in the padded
            row-major grid.
        grid (tuple[int, int], optional): That grid. Otherwise it follows from the image.
        unpadded (tuple[int, int], optional): The part of it that the image covers.
        image_size (tuple[int, int], optional): Height and width of what the model was given.
        extra_tokens (int, optional): How many tokens stand before those of the grid. Otherwise
            it follows from the image.
    """
    images: int
    query: Tensor | None = None
    key: Tensor | None = None
    scale: float = 1.
    logit_mask: Tensor | None = None
    bias: Tensor | None = None
    weights: Tensor | None = None
    windows: Tensor | None = None
    grid: tuple[int, int] | None = None
    unpadded: tuple[int, int] | None = None
    image_size: tuple[int, int] | None = None
    extra_tokens: int | None = None

    @classmethod
    def of(cls, weights: Tensor) -> 'AttentionMaps':
        """Maps given as matrices (B, h, Nq, Nk)."""
        return cls(len(weights), weights=weights)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Maps (images, or their windows), heads, queries and keys."""
        if self.weights is not None:
            return tuple(self.weights.shape)
        return *self.query.shape[:3], self.key.shape[2]

    @property
    def num_tokens(self) -> int:
        """Number of keys in the whole image."""
        return self.shape[3] if self.windows is None else self.windows.numel()

    def blocks(self, entries: int = BLOCK_ENTRIES) -> Iterator[tuple[slice, Tensor]]:
        """Rows after rows of all maps: which ones, and (maps, h, rows, Nk) in float32 or better.

        Args:
            entries (int): Most entries of a block, unless one row has more.
        """
        maps, heads, rows, keys = self.shape
        step = max(1, entries // (maps * heads * keys))
        for start in range(0, rows, step):
            chosen = slice(start, min(start + step, rows))
            yield chosen, self._rows(chosen)

    def _rows(self, rows: slice) -> Tensor:
        if self.weights is not None:
            block = self.weights[..., rows, :]
            return block.to(torch.promote_types(block.dtype, torch.float32))
        dtype = torch.promote_types(self.query.dtype, torch.float32)
        return attention_rows(
            self.query[..., rows, :].to(dtype), self.key.to(dtype), scale=self.scale,
            logit_mask=None if self.logit_mask is None else self.logit_mask[:, rows],
            bias=None if self.bias is None else self.bias.expand(self.shape)[..., rows, :])

    def matrix(self, image: int = 0, head: int | None = None,
               dtype: torch.dtype = torch.float32) -> Tensor:
        """The whole matrix (Nq, Nk) of one image; of windows, (N, N) in the order of the grid.

        Args:
            image (int): Which image.
            head (int, optional): Which head. Defaults to their mean.
            dtype (torch.dtype): Of the result.

        Raises:
            ValueError: If there is no such head.
        """
        self.check_head(head)
        own = self.of_image(image)
        maps, _, queries, keys = own.shape
        parts = torch.empty(maps, queries, keys, dtype=dtype,
                            device=(self.query if self.weights is None else self.weights).device)
        for rows, block in own.blocks():
            parts[:, rows] = (block.mean(1) if head is None else block[:, head]).to(dtype)
        if self.windows is None:
            return parts[0]
        whole = parts.new_zeros(self.num_tokens, self.num_tokens)
        whole[self.windows[:, :, None], self.windows[:, None]] = parts
        return whole

    def query_map(self, position: tuple[float, float], image: int = 0, head: int | None = None
                  ) -> Tensor:
        """What the token at one place of the image attends to, over the grid of keys (H, W).

        Args:
            position (tuple[float, float]): From the top and from the left, as parts of the image.
            image (int): Which image.
            head (int, optional): Which head. Defaults to their mean.

        Raises:
            ValueError: If the position is outside the image, or there is no such head.
        """
        self.check_head(head)
        own = self.of_image(image)
        grid, extra = self.grid_of(self.shape[2])
        y, x = self.query_place(position)[0]
        token = extra + y * grid[1] + x
        if self.windows is not None:
            (window, token), = (self.windows == token).nonzero().tolist()
            row = own.weights[window, :, token].float()  # (h, Nk)
            attended = row.new_zeros(self.num_tokens)
            attended[self.windows[window]] = row.mean(0) if head is None else row[head]
            rows, columns = self.unpadded or grid
            return attended.view(grid)[:rows, :columns]
        row = own._rows(slice(token, token + 1))[0, :, 0]  # (h, Nk)
        grid, extra = self.grid_of(self.shape[3])
        return (row.mean(0) if head is None else row[head])[extra:].view(grid)

    def query_place(self, position: tuple[float, float]) -> tuple[tuple[int, int],
                                                                  tuple[int, int]]:
        """Row and column of the token at a place of the image, and how many there are of each.

        Args:
            position (tuple[float, float]): From the top and from the left, as parts of the image.

        Raises:
            ValueError: If the position is outside the image.
        """
        if not all(0 <= part <= 1 for part in position):
            raise ValueError(f'the query at {position[0]}, {position[1]} lies outside the image: '
                             'both parts are 0 to 1')
        sides = self.unpadded or self.grid_of(self.shape[2])[0]
        y, x = (min(int(part * side), side - 1)
                for part, side in zip(position, sides, strict=True))
        return (y, x), sides

    def of_image(self, image: int) -> 'AttentionMaps':
        """The maps of one image."""
        per_image = self.shape[0] // self.images
        own = slice(image * per_image, (image + 1) * per_image)

        def cut(x: Tensor | None) -> Tensor | None:
            return None if x is None else x[own]

        bias = self.bias
        if bias is not None and bias.dim() == 4 and len(bias) > 1:
            bias = bias[own]
        return AttentionMaps(1, cut(self.query), cut(self.key), self.scale, self.logit_mask, bias,
                             cut(self.weights), self.windows, self.grid, self.unpadded,
                             self.image_size, self.extra_tokens)

    def check_head(self, head: int | None) -> None:
        """Raise ValueError unless there is such a head."""
        if head is not None and not 0 <= head < self.shape[1]:
            raise ValueError(f'there is no head {head}: the layer has the heads 0 to '
                             f'{self.shape[1] - 1}')

    def grid_of(self, tokens: int) -> tuple[tuple[int, int], int]:
        """Grid (H, W) of so many tokens, and how many extra ones stand before it."""
        if self.grid is not None:
            return self.grid, 0
        if self.image_size is None:
            raise ValueError('these attention maps belong to no image')
        return token_grid(tokens, self.image_size, self.extra_tokens)


def token_grid(tokens: int, image_size: tuple[int, int], extra_tokens: int | None = None
               ) -> tuple[tuple[int, int], int]:
    """The grid that the tokens of an image form.

    Args:
        tokens (int): Number of tokens.
        image_size (tuple[int, int]): Height and width of the image.
        extra_tokens (int, optional): How many of them stand before the grid. Defaults to as few
            as possible.

    Returns:
        tuple[tuple[int, int], int]: Height and width of the grid, and the number of extra tokens
        (class, distillation, registers) before it.

    Raises:
        ValueError: If they form none.
    """
    height, width = image_size
    allowed = range(MAX_EXTRA_TOKENS + 1) if extra_tokens is None else (extra_tokens,)
    found = []
    for stride in range(1, max(image_size) + 1):
        for grid in ((height // stride, width // stride),
                     (-(-height // stride), -(-width // stride))):
            extra = tokens - grid[0] * grid[1]
            if min(grid) > 0 and extra in allowed:
                found.append((extra, stride, grid))
    if not found:
        raise ValueError(f'{tokens} tokens do not form a grid over an image of {height} x {width} '
                         'pixels')
    extra, _, grid = min(found)
    return grid, extra
