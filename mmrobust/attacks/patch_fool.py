"""Patch-Fool: one adversarial patch that draws all attention (Fu et al., ICLR 2022)."""
from collections.abc import Callable

import torch
import torch.nn.functional as F
from mmengine.registry import TASK_UTILS
from torch import Tensor, nn

from mmrobust.models.layers import listening
from mmrobust.ops import attention_rows

from .victim import Victim, check_number, input_gradient

CHOICES = ('attention', 'saliency', 'random')
REMEDY = "use choice='saliency' and attention_weight=0"


class AttentionReader:
    """Hands the head-averaged attention (B, Nq, Nk) of every layer to a function.

    Attributes:
        values (list[Tensor | ValueError]): What the function made of each layer's, or why it
            could make nothing of it.
    """

    def __init__(self, read: Callable[[Tensor], Tensor]):
        self.read = read
        self.values: list[Tensor | ValueError] = []

    def silent(self) -> 'AttentionReader':
        return AttentionReader(self.read)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, scale: float,
               logit_mask: Tensor | None, layer: nn.Module | None = None) -> Tensor:
        attention = attention_rows(q, k, scale=scale, logit_mask=logit_mask)
        self.observe(attention)
        return attention @ v

    def observe(self, attention: Tensor, layer: nn.Module | None = None) -> None:
        try:
            value = self.read(attention.mean(1))
        except ValueError as error:  # matters only if this layer is asked for
            value = error
        self.values.append(value)


@TASK_UTILS.register_module(force=True)
class PatchFool:
    """Patch-Fool attack on a test batch.

    The clean image chooses the patch; its pixels then ascend, by Adam, on the cross-entropy and
    on the attention that all tokens pay to the patch.

    Args:
        num_patches (int): Patches per image. Defaults to 1.
        patch_size (int): Side of a patch, the model's own. Defaults to 16.
        choice (str): ``'attention'``: the patches that receive most attention in layer
            ``choice_layer``; ``'saliency'``: largest summed gradient; ``'random'``.
            Defaults to ``'attention'``.
        choice_layer (int): Counted from 0. Defaults to 4.
        attention_weight (float): Weight of the attention's gradient, taken in layers 1 to
            L/2 - 1 and freed of what conflicts with the cross-entropy's; 0 attacks the
            cross-entropy alone. Defaults to 0.002.
        steps (int): Defaults to 250.
        lr (float): Learning rate in normalised pixels. Defaults to 0.22.
        lr_decay (float), decay_every (int): The rate is multiplied by the former after so many
            steps. Default to 0.95 and 10.
        radius (float, optional): Keep the patch within this L-infinity distance, in images of
            [0, 1]. By default anything of the image range is allowed.
        seed (int): Selects other random draws.

    Attributes:
        unmoved (list[bool]): Of each image so far, whether its gradient was exactly zero, so that
            the patch is noise.

    Raises:
        ValueError: On a setting that is not positive, or an unknown choice.
    """

    def __init__(self, num_patches: int = 1, patch_size: int = 16, choice: str = 'attention',
                 choice_layer: int = 4, attention_weight: float = 0.002, steps: int = 250,
                 lr: float = 0.22, lr_decay: float = 0.95, decay_every: int = 10,
                 radius: float | None = None, seed: int = 0):
        released = ('the released attack has num_patches=1, patch_size=16, steps=250, lr=0.22, '
                    'lr_decay=0.95, decay_every=10, attention_weight=0.002')
        for name, value in dict(num_patches=num_patches, patch_size=patch_size, steps=steps,
                                decay_every=decay_every).items():
            check_number(name, value, released, whole=True)
        check_number('lr', lr, released)
        check_number('lr_decay', lr_decay, released, most=1)
        if attention_weight != 0:
            check_number('attention_weight', attention_weight, released)
        if radius is not None:
            check_number('radius', radius, 'it is given for images of [0, 1]; None lifts it',
                         most=1)
        if choice not in CHOICES:
            raise ValueError(f"choice='{choice}': choose {', '.join(CHOICES)}")
        self.num_patches = num_patches
        self.patch_size = patch_size
        self.choice = choice
        self.choice_layer = choice_layer
        self.attention_weight = attention_weight
        self.steps = steps
        self.lr = lr
        self.lr_decay = lr_decay
        self.decay_every = decay_every
        self.radius = radius
        self.seed = seed
        self.unmoved: list[bool] = []

    @torch.enable_grad()
    def __call__(self, model: nn.Module, data: dict) -> dict:
        """The batch with adversarial patches."""
        victim = Victim(model, data)
        images, size = victim.images, self.patch_size
        height, width = images.shape[-2:]
        if height % size or width % size:
            raise ValueError(f'an image of {height} x {width} pixels is not a multiple of the '
                             f'patch of {size} x {size}: change the resizing of the pipeline or '
                             'patch_size')
        grid = height // size, width // size
        if self.num_patches > grid[0] * grid[1]:
            raise ValueError(f'num_patches={self.num_patches}: an image has only '
                             f'{grid[0] * grid[1]} patches of {size} x {size}')
        chosen = self._choose(victim, grid)  # (B, patches)
        mask = torch.zeros(len(images), grid[0] * grid[1], device=images.device)
        mask = mask.scatter(1, chosen, 1.).unflatten(1, grid)
        mask = mask.repeat_interleave(size, 1).repeat_interleave(size, 2)[:, None]

        bottom, top = torch.zeros_like(images), torch.ones_like(images)
        if self.radius is not None:
            bottom, top = ((images + sign * self.radius).clamp(0, 1) for sign in (-1, 1))
        # in units of a standard deviation: normalised pixels, but for their mean
        bottom, top = bottom / victim.std, top / victim.std
        pixels = bottom + (top - bottom) * victim.uniform('patch_fool', self.seed)
        pixels.requires_grad_()
        optimizer = torch.optim.Adam([pixels], lr=self.lr)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, self.decay_every, self.lr_decay)

        def attacked() -> Tensor:
            return images * (1 - mask) + pixels * victim.std * mask

        for _ in range(self.steps):
            pixels.grad = -self._direction(victim, attacked(), pixels, chosen, grid)
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                pixels.clamp_(bottom, top)
        self.unmoved = [*self.unmoved, *(~victim.moved).tolist()]
        return victim.batch(attacked().detach())

    def _direction(self, victim: Victim, images: Tensor, pixels: Tensor, chosen: Tensor,
                   grid: tuple[int, int]) -> Tensor:
        """Gradient (B, C, H, W) to ascend along."""
        if not self.attention_weight:
            return victim.watch(input_gradient(victim.losses(images).sum(), pixels))

        def log_attention(attention: Tensor) -> Tensor:
            first = _class_tokens(attention, grid)
            columns = (chosen + first)[:, None].expand(-1, attention.shape[1], -1)
            paid = attention.gather(2, columns).clamp_min(torch.finfo(attention.dtype).tiny)
            return paid.log().mean((1, 2))

        reader = AttentionReader(log_attention)
        with listening(reader):
            loss = victim.losses(images).sum()
        layers = _readable(_reported(reader, victim)[1:len(reader.values) // 2])
        gradient = victim.watch(input_gradient(loss, pixels, retain_graph=bool(layers)))
        direction = gradient
        for i, value in enumerate(layers):
            attention_gradient = input_gradient(value.sum(), pixels, i + 1 < len(layers))
            direction = direction + self.attention_weight * without_conflict(
                attention_gradient, gradient)
        return direction

    def _choose(self, victim: Victim, grid: tuple[int, int]) -> Tensor:
        """Indices (B, num_patches) of the patches to attack."""
        if self.choice == 'random':
            scores = torch.stack([torch.rand(grid[0] * grid[1], generator=generator)
                                  for generator in victim.generators('patch_choice', self.seed)])
            scores = scores.to(victim.images.device)
        elif self.choice == 'saliency':
            images = victim.images.clone().requires_grad_()
            gradient = input_gradient(victim.losses(images).sum(), images)
            saliency = (gradient * victim.std).abs().sum(1, keepdim=True)  # of normalised pixels
            scores = F.avg_pool2d(saliency, self.patch_size).flatten(1)
        else:
            scores = self._attention_scores(victim, grid)
        return scores.topk(self.num_patches, dim=1).indices

    def _attention_scores(self, victim: Victim, grid: tuple[int, int]) -> Tensor:
        reader = AttentionReader(
            lambda attention: attention[:, :, _class_tokens(attention, grid):].mean(1))
        with torch.no_grad(), listening(reader):
            victim.losses(victim.images)
        layers = _reported(reader, victim)
        if not -len(layers) <= self.choice_layer < len(layers):
            raise ValueError(f'choice_layer={self.choice_layer}: the model has {len(layers)} '
                             'self-attention layers, counted from 0')
        return _readable([layers[self.choice_layer]])[0]


def without_conflict(gradient: Tensor, main: Tensor) -> Tensor:
    """Remove, per image, the part of a gradient that points against another (PCGrad)."""
    product = (gradient * main).flatten(1).sum(1)
    factor = product.clamp(max=0) / main.flatten(1).square().sum(1).clamp_min(
        torch.finfo(main.dtype).tiny)
    return gradient - factor.view(-1, 1, 1, 1) * main


def _class_tokens(attention: Tensor, grid: tuple[int, int]) -> int:
    """How many keys come before the patches' own.

    Raises:
        ValueError: If the keys are not those and one per patch.
    """
    extra = attention.shape[-1] - grid[0] * grid[1]
    if extra not in (0, 1, 2) or attention.shape[-2] != attention.shape[-1]:
        raise ValueError(
            f'a self-attention of {attention.shape[-2]} queries and {attention.shape[-1]} keys '
            f'does not see each of the {grid[0]} x {grid[1]} patches once: set patch_size to the '
            f'stride of the tokens or, where attention is windowed or pooled, {REMEDY}')
    return extra


def _reported(reader: AttentionReader, victim: Victim) -> list[Tensor | ValueError]:
    if not reader.values:
        backbone = getattr(victim.model, 'backbone', victim.model)
        raise ValueError(f'{type(backbone).__name__} has no self-attention that Patch-Fool can '
                         f'read: use a backbone of mmrobust, or {REMEDY}')
    return reader.values


def _readable(values: list[Tensor | ValueError]) -> list[Tensor]:
    for value in values:
        if isinstance(value, ValueError):
            raise value
    return values
