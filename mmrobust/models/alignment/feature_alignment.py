"""Adversarial feature alignment (AFAT, published as RSPC, CVPR 2023)."""
import math
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmrobust.models.image_range import image_range

from .corruption_models import LossScale
from .drop_path import match_drop_paths
from .joint_pass import JointPass, allow_second_backward, couples_images

OBJECTIVES = ('alignment', 'total', 'cross_entropy')


@MODELS.register_module(force=True)
class AdversarialFeatureAlignment(nn.Module):
    r"""Keeps the tokens of an image in place while an adversary corrupts patches of it.

    A corruption model picks the patches; the backbone sees corrupted and clean images in one
    batch; the loss is the distance between their tokens after every token-mixing block
    ("Improving Robustness of Vision Transformers by Reducing Sensitivity To Patch Corruptions",
    CVPR 2023, section 3). The heads see the clean images only. The backbone descends on the
    distance and, in the same step, the corruption model ascends on its objective; give it an
    optimizer of its own with ``AdversarialOptimWrapperConstructor``.

    Args:
        corruption (dict): Config of a :class:`PatchCorruptionModel` or
            :class:`RandomPatchCorruption`. Defaults to the former.
        loss_weight (float): The paper's lambda. Defaults to 5e-3.
        norm (str): Distance of a block: ``'mse'``, as in the authors' code, averages the squared
            differences over all elements, and their sum over L blocks is divided by L + 1e-4;
            ``'squared_norm'``, as the paper writes it, sums them per image and averages over
            images and blocks. It is N C times as large for N tokens of C channels: the lambda
            that goes with it is 5e-3 / (N C). Defaults to ``'mse'``.
        objective (str, optional): What the corruption model maximises, and nothing else. The
            model's own gradients do not depend on it. ``'alignment'``: this loss (equation 2 and
            line 9 of algorithm 1 of the paper). ``'total'``: all losses of the model together, as
            in the authors' code; with shared batch statistics the loss of the clean images is
            most of them. ``'cross_entropy'``: the host's loss on the corrupted images (table 6 of
            the paper). Where images share batch statistics ``'alignment'`` takes a second
            backward, to the images and past all weights; elsewhere it comes with the first.
            Defaults to ``'alignment'``.
        gradient_scale (float): The corruption model's gradients are multiplied by this, and only
            then clipped (each score's to 1, the whole to the norm that its optimizer allows).
            The authors never undid the loss scale of mixed precision, which starts at 65536: in
            effect nearly every gradient was clipped, which lets a rate of 1e-4 move the model. 1
            keeps how much each patch matters and asks for a rate some thousand times as large.
            Neither depends on mixed precision. Defaults to 65536.
        matched_drop_path (bool): Draw stochastic depth once for an image and its corrupted
            twin. The authors draw independently. Defaults to False.
        blocks (str, optional): Regular expression that the names of the aligned modules, within
            the backbone, match entirely. By default every module with a self-attention named
            ``attn``.
        adversary (str, optional): Old name of ``objective``, whose ``'alignment'`` was what is
            ``'total'`` now.

    Raises:
        ValueError: On a negative weight or scale, an unknown norm or objective, or two names for
            the latter.
    """

    def __init__(self, corruption: dict | None = None, loss_weight: float = 5e-3,
                 norm: str = 'mse', objective: str | None = None,
                 gradient_scale: float = 65536., matched_drop_path: bool = False,
                 blocks: str | None = None, adversary: str | None = None):
        super().__init__()
        if loss_weight < 0:
            raise ValueError(f'loss_weight={loss_weight} would drive the features apart: use a '
                             'weight >= 0; the paper uses 5e-3')
        if gradient_scale <= 0:
            raise ValueError(f'gradient_scale={gradient_scale}: the corruption model learns by a '
                             'positive multiple of its gradient')
        if norm not in ('mse', 'squared_norm'):
            raise ValueError(f"norm='{norm}': choose 'mse' or 'squared_norm'")
        if adversary is not None:
            if objective is not None:
                raise ValueError(f"objective='{objective}' and adversary='{adversary}', its old "
                                 'name, are both given: leave out adversary')
            objective = _objective_of(adversary)
        objective = objective or 'alignment'
        if objective not in OBJECTIVES:
            raise ValueError(f"objective='{objective}': choose 'alignment', 'total' or "
                             "'cross_entropy'")
        self.corruption = MODELS.build(corruption or dict(type='PatchCorruptionModel'))
        self.loss_weight = loss_weight
        self.norm = norm
        self.objective = objective
        self.gradient_scale = gradient_scale
        self.matched_drop_path = matched_drop_path
        self.blocks = blocks

    def prepare(self, backbone: nn.Module) -> None:
        """Check that there is something to align; prepare backbone and torch for the training.

        Raises:
            ValueError: If the backbone has no block to align.
        """
        self.aligned_blocks(backbone)
        if self.objective != 'total':
            allow_second_backward()
        if self.matched_drop_path:
            match_drop_paths(backbone)

    def aligned_blocks(self, backbone: nn.Module) -> list[nn.Module]:
        """The modules whose outputs are aligned, in depth order.

        Raises:
            ValueError: If there is none.
        """
        if self.blocks is not None:
            found = [m for name, m in backbone.named_modules() if re.fullmatch(self.blocks, name)]
            if not found:
                raise ValueError(f"blocks='{self.blocks}' matches no module of "
                                 f'{type(backbone).__name__}')
            return found
        found: list[nn.Module] = []
        inside: tuple[str, ...] = ()  # some hosts wrap an attn in an attn
        for name, module in backbone.named_modules():
            if ('attn' in module._modules and getattr(module, 'mixes_tokens', True)
                    and not name.startswith(inside)):
                found.append(module)
                inside += (f'{name}.',)
        if not found:
            raise ValueError(
                f'{type(backbone).__name__} has no block with a self-attention to align: use a '
                'vision transformer, or name the modules to align by a regular expression, such '
                "as blocks=r'layer\\d\\.\\d'")
        return found

    @contextmanager
    def joint_pass(self, model: nn.Module, images: Tensor) -> Iterator[JointPass]:
        """Corrupt images and collect what the blocks of the model make of both.

        Args:
            model (nn.Module): Model with ``backbone`` and ``data_preprocessor``.
            images (Tensor): Clean normalised images (B, 3, H, W).
        """
        loss_scale = LossScale()
        corrupted = self.corruption(images, *image_range(model.data_preprocessor), loss_scale)
        # without batch statistics nothing but the alignment connects a corrupted image to a loss
        reverse = self.objective == 'total' or (
            self.objective == 'alignment' and not couples_images(model))
        joint = JointPass(corrupted, loss_scale, reverse, self.gradient_scale)
        with ExitStack() as stack:
            for block in self.aligned_blocks(model.backbone):
                stack.callback(block.register_forward_hook(joint.keep).remove)
            yield joint

    @contextmanager
    def around(self, model: nn.Module, inputs: Tensor) -> Iterator[JointPass | None]:
        """In training, the pass of corrupted and clean images in the place of the model's own."""
        if not model.training:
            yield None
            return
        with self.joint_pass(model, inputs) as joint, model.passing(joint):
            yield joint

    def losses(self, model: nn.Module, joint: JointPass | None, host_loss: Callable
               ) -> dict[str, Tensor]:
        """``loss_alignment``, and what the corruption model learns from if that is another."""
        losses = {}
        if joint is None:
            return losses
        if joint.learns and self.objective == 'cross_entropy':
            with model.passing(joint), joint.showing_corrupted():
                objective, _ = model.parse_losses(host_loss())
            losses['corrupted_objective'] = objective.detach()
            losses['loss_adversary'] = joint.ascent(objective, unit=2. ** 10)
        return losses | dict(loss_alignment=self(joint))

    def forward(self, joint: JointPass) -> Tensor:
        """The weighted distance between the tokens of a pass, a scalar in float32."""
        loss = self.loss_weight * self.distance(joint.tokens)
        if joint.reverse:
            return joint.loss_scale.observe(loss)
        if self.objective == 'alignment' and joint.learns:
            elements = joint.tokens[0].numel() if self.norm == 'mse' else len(joint.tokens[0])
            unit = elements / max(self.loss_weight, 1e-6)
            # a power of two loses nothing
            return loss + joint.ascent(loss, 2. ** round(math.log2(unit)))
        return loss

    def distance(self, tokens: list[Tensor]) -> Tensor:
        """Distance between the halves of each (2B, N, C)."""
        pairs = [t.float().chunk(2) for t in tokens]
        if self.norm == 'mse':
            return sum(F.mse_loss(*pair) for pair in pairs) / (len(pairs) + 1e-4)
        return sum(F.mse_loss(*pair, reduction='sum') / len(pair[0])
                   for pair in pairs) / len(pairs)


def _objective_of(adversary: str) -> str:
    """The ``objective`` that the old option ``adversary`` stands for."""
    objective = dict(alignment='total').get(adversary, adversary)
    warnings.warn(
        f"AdversarialFeatureAlignment: adversary='{adversary}' is taken as objective="
        f"'{objective}', which is what it used to do: write that; the paper's, and the default, "
        "is objective='alignment'", FutureWarning, stacklevel=3)
    return objective
