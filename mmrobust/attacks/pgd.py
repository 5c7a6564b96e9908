"""Projected gradient descent within an L-infinity ball (Madry et al., ICLR 2018), and FGSM."""
from collections.abc import Callable
from typing import Any

import torch
from mmengine.registry import TASK_UTILS
from torch import Tensor, nn

from .victim import Victim, check_number, input_gradient


def projected_gradient(images: Tensor, loss: Callable[[Tensor], Tensor], *,
                       radius: float | Tensor, step_size: float | Tensor, steps: int,
                       start: Tensor | None = None, low: float | Tensor = 0.,
                       high: float | Tensor = 1.,
                       watch: Callable[[Tensor], Any] = lambda gradient: None) -> Tensor:
    """Ascend on a loss by steps along the sign of its gradient.

    Args:
        images (Tensor): Where the ball is centred, (B, C, H, W).
        loss (Callable): Images to a scalar, in which no image influences another's gradient.
        radius, step_size (float | Tensor): In the units of the images; a tensor (C, 1, 1) for
            normalised ones.
        steps (int): Number of steps.
        start (Tensor, optional): Offset of the first iterate. Defaults to none.
        low, high (float | Tensor): The valid range of the images.
        watch (Callable): Is shown the gradient (B, C, H, W) of every step.

    Returns:
        Tensor: The last iterate. It lies in the ball and in the range.

    Raises:
        ValueError: If there is no gradient, or one that is not finite.
    """
    bottom = torch.maximum(images - radius, torch.as_tensor(low).to(images))
    top = torch.minimum(images + radius, torch.as_tensor(high).to(images))
    adversarial = images if start is None else (images + start).clamp(bottom, top)
    for _ in range(steps):
        adversarial = adversarial.detach().requires_grad_()
        with torch.enable_grad():
            gradient = input_gradient(loss(adversarial), adversarial)
        watch(gradient)
        adversarial = (adversarial.detach() + step_size * gradient.sign()).clamp(bottom, top)
    return adversarial.detach()


@TASK_UTILS.register_module(force=True)
class PGD:
    """PGD attack on a test batch; with one step of the radius and no random start, FGSM.

    Args:
        radius (float): Of the ball, in images of [0, 1]. Defaults to 8/255.
        step_size (float): Defaults to 2/255.
        steps (int): Defaults to 5.
        random_start (bool): Start anywhere in the ball instead of at its centre.
            Defaults to True.
        seed (int): Selects another random start.

    Attributes:
        unmoved (list[bool]): Of each image so far, whether its gradient was exactly zero, so that
            only a random start changed it.

    Raises:
        ValueError: If radius, step size or number of steps is not positive, or too large.
    """

    def __init__(self, radius: float = 8 / 255, step_size: float = 2 / 255, steps: int = 5,
                 random_start: bool = True, seed: int = 0):
        check_number('radius', radius, 'it is given for images of [0, 1], such as 8/255', most=1)
        check_number('step_size', step_size, 'it is given for images of [0, 1], such as 2/255',
                     most=1)
        check_number('steps', steps, 'an attack needs at least 1 step', whole=True)
        self.radius = radius
        self.step_size = step_size
        self.steps = int(steps)
        self.random_start = random_start
        self.seed = seed
        self.unmoved: list[bool] = []

    def __call__(self, model: nn.Module, data: dict) -> dict:
        """The batch with adversarial images."""
        victim = Victim(model, data)
        start = None
        if self.random_start:
            start = (2 * victim.uniform('pgd', self.seed) - 1) * self.radius
        adversarial = projected_gradient(
            victim.images, lambda images: victim.losses(images).sum(), radius=self.radius,
            step_size=self.step_size, steps=self.steps, start=start, watch=victim.watch)
        self.unmoved = [*self.unmoved, *(~victim.moved).tolist()]
        return victim.batch(adversarial)
