"""Taking down the attention of a running model, ours or a host library's, without changing it."""
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrobust.models.layers.listening import listening
from mmrobust.models.layers.tokens import split_heads

from .attention import AttentionMaps

Record = Callable[[AttentionMaps], None]


@contextmanager
def capture_attention(model: nn.Module, layers: Sequence[str | int] | None = None,
                      dtype: torch.dtype | None = None) -> Iterator[dict[str, AttentionMaps]]:
    """Keep queries and keys of self-attention layers while the model runs.

    They are O(N); attention itself is computed from them on demand (:class:`AttentionMaps`). Of
    a layer that runs several times the last time counts. Outputs stay as they are.

    Args:
        model (nn.Module): FAN, RVT, or a model with ViT, DeiT, Swin or MiT of a host library.
        layers (Sequence[str | int], optional): Names or positions of layers, see
            :func:`select_layers`. Defaults to all.
        dtype (torch.dtype, optional): In which to keep them. Defaults to the model's.

    Yields:
        dict[str, AttentionMaps]: Filled while the model runs: layer name to its attention.

    Raises:
        ValueError: If the model has no attention layer, or lacks a wanted one.
    """
    available = attention_layers(model)
    captured: dict[str, AttentionMaps] = {}
    image_size: list[tuple[int, int]] = []

    def note_size(_: nn.Module, args: tuple, kwargs: dict) -> None:
        images = next((x for x in (*args, *kwargs.values())
                       if isinstance(x, Tensor) and x.dim() == 4), None)
        image_size[:] = [] if images is None else [tuple(images.shape[-2:])]

    def record(name: str, maps: AttentionMaps) -> None:
        for part in ('query', 'key', 'weights', 'logit_mask', 'bias'):
            tensor = getattr(maps, part)
            if tensor is not None:
                setattr(maps, part, tensor.detach().to(dtype or tensor.dtype))
        maps.image_size = image_size[0] if image_size else None
        maps.extra_tokens = getattr(backbone, 'num_extra_tokens', None)
        captured[name] = maps

    backbone = getattr(model, 'backbone', model)
    with ExitStack() as stack:
        stack.callback(backbone.register_forward_pre_hook(note_size, with_kwargs=True).remove)
        reporting = {}
        for name in select_layers(available, layers):
            module, note = available[name], partial(record, name)
            if _reports(module):
                reporting[module] = note
            else:
                stack.callback(_watcher(module)(module, note))
        if reporting:
            stack.enter_context(listening(_Recorder(reporting)))
        yield captured


def attention_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The self-attention layers of a model by name, in order of depth.

    Raises:
        ValueError: If there is none that we know.
    """
    layers: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        inside = any(name.startswith(f'{outer}.') for outer in layers)
        if not inside and (_reports(module) or _watcher(module) is not None):
            layers[name] = module
    if not layers:
        raise ValueError(
            f'{type(getattr(model, "backbone", model)).__name__} has no self-attention that can '
            'be captured: use FAN, RVT, ViT, DeiT, Swin or MiT (SegFormer)')
    return layers


def select_layers(available: Sequence[str], wanted: Sequence[str | int] | None = None
                  ) -> list[str]:
    """Names of layers.

    Args:
        available (Sequence[str]): The names that there are, in order.
        wanted (Sequence[str | int], optional): Names or positions (-1 is the last one).
            Defaults to all.

    Raises:
        ValueError: If there is no such layer.
    """
    names = list(available)
    if wanted is None:
        return names
    chosen = []
    for layer in wanted:
        is_position = isinstance(layer, int) or layer.lstrip('-').isdigit()
        if is_position and -len(names) <= int(layer) < len(names):
            chosen.append(names[int(layer)])
        elif not is_position and layer in names:
            chosen.append(layer)
        else:
            raise ValueError(f"there is no attention layer '{layer}': the model has "
                             f'{len(names)}, 0 {names[0]} to {len(names) - 1} {names[-1]}')
    return chosen


class _Recorder:
    """Notes what layers of ours attend to, and leaves the computation to others."""

    def __init__(self, records: dict[nn.Module, Record]):
        self.records = records

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, scale: float,
               logit_mask: Tensor | None, layer: nn.Module | None) -> None:
        if layer in self.records:
            self.records[layer](AttentionMaps(len(q), q, k, scale, logit_mask))

    def observe(self, attention: Tensor, layer: nn.Module | None) -> None:
        pass

    def silent(self) -> '_Recorder':
        return _Recorder({})


def _reports(module: nn.Module) -> bool:
    return getattr(module, 'reports_attention', False)


# Each kind of layer of the host libraries has its way of being watched: a function that begins it
# and returns the function that ends it.

def _watcher(module: nn.Module) -> Callable[[nn.Module, Record], Callable[[], Any]] | None:
    if isinstance(module, nn.MultiheadAttention):
        return _watch_pytorch
    if callable(getattr(module, 'scaled_dot_product_attention', None)):
        return _watch_scaled_dot_product
    if isinstance(getattr(getattr(module, 'w_msa', None), 'softmax', None), nn.Softmax):
        return _watch_windows
    return None


def _watch_scaled_dot_product(module: nn.Module, record: Record) -> Callable[[], Any]:
    """MMPretrain's layers hold the function as an attribute."""
    function = module.scaled_dot_product_attention
    # its own replacement for old PyTorch divides by what it calls scale
    divisor = function.keywords.get('scale') if isinstance(function, partial) else None

    def recorded(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, **kwargs):
        scale = 1 / divisor if divisor else kwargs.get('scale') or q.shape[-1] ** -0.5
        bias = attn_mask
        if bias is not None and bias.dtype == torch.bool:
            bias = torch.zeros_like(bias, dtype=q.dtype).masked_fill(~bias, float('-inf'))
        record(AttentionMaps(len(q), q, k, scale, bias=bias))
        if attn_mask is not None:
            kwargs['attn_mask'] = attn_mask
        return function(q, k, v, **kwargs)

    module.scaled_dot_product_attention = recorded
    return partial(setattr, module, 'scaled_dot_product_attention', function)


def _watch_pytorch(module: nn.MultiheadAttention, record: Record) -> Callable[[], Any]:
    def project(module: nn.MultiheadAttention, args: tuple, kwargs: dict) -> None:
        query, key = (kwargs.get(name, args[i] if i < len(args) else None)
                      for i, name in enumerate(('query', 'key')))
        if not module.batch_first:
            query, key = query.transpose(0, 1), key.transpose(0, 1)
        if module._qkv_same_embed_dim:
            weights = module.in_proj_weight.chunk(3)[:2]
        else:
            weights = module.q_proj_weight, module.k_proj_weight
        biases = (None, None) if module.in_proj_bias is None else module.in_proj_bias.chunk(3)[:2]
        q, k = (split_heads(F.linear(x, weight, bias), module.num_heads)
                for x, weight, bias in zip((query, key), weights, biases, strict=True))
        record(AttentionMaps(len(q), q, k, q.shape[-1] ** -0.5))

    return module.register_forward_pre_hook(project, with_kwargs=True).remove


def _watch_windows(module: nn.Module, record: Record) -> Callable[[], Any]:
    """The host libraries' shifted windows."""
    places: list = []

    def locate(module: nn.Module, args: tuple, kwargs: dict) -> None:
        hw = kwargs['hw_shape'] if 'hw_shape' in kwargs else args[1]
        shift = module.shift_size
        if min(hw) == module.window_size and not getattr(module, 'pad_small_map', True):
            shift = 0
        places[:] = *window_places(hw, module.window_size, shift), tuple(hw)

    def take(_: nn.Module, args: tuple, weights: Tensor) -> None:
        windows, grid, hw = places
        record(AttentionMaps(len(weights) // len(windows), weights=weights,
                             windows=windows.to(weights.device), grid=grid, unpadded=hw))

    hooks = [module.register_forward_pre_hook(locate, with_kwargs=True),
             module.w_msa.softmax.register_forward_hook(take)]
    return lambda: [hook.remove() for hook in hooks]


def window_places(hw: tuple[int, int], size: int, shift: int
                  ) -> tuple[Tensor, tuple[int, int]]:
    """Where the tokens of (shifted) windows lie in the grid, padded to a multiple of the size.

    Returns:
        tuple[Tensor, tuple[int, int]]: (W, size * size), and height and width of that grid.
    """
    height, width = (-(-side // size) * size for side in hw)
    places = torch.arange(height * width).view(height, width).roll((-shift, -shift), (0, 1))
    # (rows of windows, size, columns of windows, size) -> (W, size * size)
    places = places.view(height // size, size, width // size, size).transpose(1, 2)
    return places.reshape(-1, size * size), (height, width)
