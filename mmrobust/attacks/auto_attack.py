"""AutoAttack on classifiers: four attacks without parameters to tune, the worst for each image.

Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", ICML 2020. APGD and Square are ours; FAB is that of ``torchattacks``.
"""
from collections.abc import Callable, Sequence
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from mmengine.registry import TASK_UTILS
from torch import Tensor, nn

from .apgd import auto_pgd
from .norms import check_ball, start_offset, where
from .square import square_attack
from .victim import Victim, check_number, input_gradient, without_checkpointing

ATTACKS = ('apgd-ce', 'apgd-t', 'fab-t', 'square')
TARGETS = 9


class Classifier(nn.Module):
    """A classifier as a function of images of [0, 1] to logits (B, classes).

    Args:
        victim (Victim): The model, and how its images are prepared.
    """

    def __init__(self, victim: Victim) -> None:
        super().__init__()
        self.model = victim.model
        self._batch = victim.batch

    def forward(self, images: Tensor) -> Tensor:
        data = dict(self._batch(images), data_samples=None)
        with without_checkpointing(self.model):
            inputs = self.model.data_preprocessor(data, False)['inputs']
            logits = self.model(inputs, mode='tensor')
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise ValueError(
                f'{type(getattr(self.model, "head", None)).__name__} of '
                f'{type(self.model).__name__} predicts no single matrix of logits, which '
                'AutoAttack compares: attack it with pgd')
        return logits.float()


def targeted_loss(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Difference of logits of a target and the label, relative to the spread of the highest four.

    With fewer than four classes the difference itself.

    Args:
        logits (Tensor): (B, classes).
        labels, targets (Tensor): (B,).
    """
    gap = (logits.gather(1, targets[:, None]) - logits.gather(1, labels[:, None]))[:, 0]
    if logits.shape[1] < 4:
        return gap
    highest = logits.topk(4, dim=1).values
    return gap / (highest[:, 0] - (highest[:, 2] + highest[:, 3]) / 2 + 1e-12)


@TASK_UTILS.register_module(force=True)
class AutoAttack:
    """The attacks one after another, each on the images that the ones before left right.

    Args:
        radius (float): Of the ball, for images of [0, 1]. Defaults to 8/255.
        norm (str): ``'linf'`` or ``'l2'``. Defaults to ``'linf'``.
        attacks (Sequence[str], optional): Of ``'apgd-ce'`` (cross-entropy), ``'apgd-t'`` (towards
            each of the nine most likely other classes), ``'fab-t'`` (nearest boundaries of the
            same, needs ``torchattacks``) and ``'square'`` (without gradients). Defaults to all.
        steps (int): Of the first three, for each class. Defaults to 100.
        queries (int): Of Square. Defaults to 5,000.
        restarts (int): Random starts of APGD. Defaults to 1.
        seed (int): Selects other random draws.

    Attributes:
        records (list[dict]): Of each image so far, which attack was the first to change its class
            (100, else 0), and whether it was right before and after all.
        unmoved (list[bool]): Of each image so far that was right, whether all its gradients were
            exactly zero.

    Raises:
        ValueError: On a setting that is not positive, unknown, or impossible with the norm.
        ModuleNotFoundError: If ``torchattacks`` is needed and missing.
    """

    def __init__(self, radius: float = 8 / 255, norm: str = 'linf',
                 attacks: Sequence[str] | None = None, steps: int = 100, queries: int = 5000,
                 restarts: int = 1, seed: int = 0) -> None:
        check_ball(radius, norm)
        for name, value in dict(steps=steps, queries=queries, restarts=restarts).items():
            check_number(name, value, 'AutoAttack has steps=100, queries=5000 and restarts=1',
                         whole=True)
        if attacks is None:
            attacks = ATTACKS
        attacks = [attacks] if isinstance(attacks, str) else list(attacks)
        if not attacks or (unknown := set(attacks) - set(ATTACKS)):
            raise ValueError(f'attacks={",".join(sorted(unknown)) if attacks else "[]"}: choose of '
                             f'{", ".join(ATTACKS)}')
        if 'fab-t' in attacks and find_spec('torchattacks') is None:
            raise ModuleNotFoundError(
                "fab-t needs the package torchattacks: pip install --no-deps torchattacks requests,"
                " or leave it out with attacks=apgd-ce,apgd-t,square")
        self.radius = radius
        self.norm = norm
        self.attacks = attacks
        self.steps = int(steps)
        self.queries = int(queries)
        self.restarts = int(restarts)
        self.seed = seed
        self.records: list[dict[str, float]] = []
        self.unmoved: list[bool] = []

    def __call__(self, model: nn.Module, data: dict) -> dict:
        """The batch with adversarial images; those that nothing changes the class of stay clean."""
        victim = Victim(model, data)
        samples = data['data_samples']
        if not all('gt_label' in sample and sample.gt_label.numel() == 1 for sample in samples):
            raise ValueError('AutoAttack is for classifiers of one class per image: attack '
                             'segmenters with sea, and several labels with pgd')
        classify = Classifier(victim).eval()
        labels = torch.cat([sample.gt_label.flatten() for sample in samples]).to(victim.device)
        with torch.no_grad():
            logits = classify(victim.images)
        if logits.shape[1] < 2 or int(labels.max()) >= logits.shape[1]:
            raise ValueError(f'the labels go up to {int(labels.max())}, the model predicts '
                             f'{logits.shape[1]} classes: AutoAttack needs the labels of its '
                             'classes, and two at least')
        right = logits.argmax(1) == labels
        left, worst = right.clone(), victim.images.clone()
        columns = dict(accuracy_before=right)
        for name in self.attacks:
            index = left.nonzero()[:, 0]
            broken = torch.zeros_like(left)
            if len(index):
                found = self._run(name, victim, classify, labels, index)
                with torch.no_grad():
                    fooled = classify(found).argmax(1) != labels[index]
                worst[index[fooled]] = found[fooled]
                broken[index[fooled]] = True
            left &= ~broken
            columns[f'changed_by_{name}'] = broken
        columns['accuracy_after'] = left
        values = (100. * torch.stack(list(columns.values()), 1)).tolist()
        self.records = [*self.records, *(dict(zip(columns, row, strict=True)) for row in values)]
        gradients = any(name.startswith('apgd') for name in self.attacks)
        self.unmoved = [*self.unmoved, *(right & ~victim.moved & gradients).tolist()]
        return victim.batch(worst)

    def _run(self, name: str, victim: Victim, classify: Classifier, labels: Tensor, index: Tensor
             ) -> Tensor:
        """The images of some places of the batch, attacked."""
        images, labels = victim.images[index], labels[index]
        if name == 'square':
            streams = victim.generators('square', self.seed)

            def margins(x: Tensor) -> Tensor:
                logits = classify(x)
                own = logits.gather(1, labels[:, None])[:, 0]
                return own - logits.scatter(1, labels[:, None], -torch.inf).amax(1)

            return square_attack(images, margins, radius=self.radius, norm=self.norm,
                                 queries=self.queries,
                                 generators=[streams[i] for i in index.tolist()])[0]
        if name == 'fab-t':
            return self._fab(classify, images, labels)
        with torch.no_grad():
            logits = classify(images)
        others = logits.scatter(1, labels[:, None], -torch.inf).argsort(1, descending=True)
        ranks = min(TARGETS, logits.shape[1] - 1) if name == 'apgd-t' else 1
        adversarial, left = images.clone(), torch.ones_like(labels, dtype=torch.bool)
        for rank in range(ranks):
            for restart in range(self.restarts):
                at = left.nonzero()[:, 0]
                if not len(at):
                    return adversarial
                own, targets = labels[at], others[at, rank]

                def loss(logits: Tensor, own: Tensor = own, targets: Tensor = targets) -> Tensor:
                    return (F.cross_entropy(logits, own, reduction='none') if name == 'apgd-ce'
                            else targeted_loss(logits, own, targets))

                draws = victim.uniform(f'{name} {rank}, start {restart}', self.seed)[index[at]]
                found = auto_pgd(
                    images[at], self._judge(classify, victim, own, loss, index[at]),
                    radius=self.radius, norm=self.norm, steps=self.steps,
                    start=images[at] + start_offset(draws, self.radius, self.norm))
                fooled = found.worst_scores < 1
                adversarial[at] = where(fooled, found.worst_images, adversarial[at])
                left[at] &= ~fooled
        return adversarial

    @staticmethod
    def _judge(classify: Classifier, victim: Victim, labels: Tensor,
               loss: Callable[[Tensor], Tensor], index: Tensor) -> Callable:
        def judge(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            images = images.detach().requires_grad_()
            with torch.enable_grad():
                logits = classify(images)
                losses = loss(logits)
                gradient = input_gradient(losses.sum(), images)
            victim.moved[index] |= gradient.flatten(1).ne(0).any(1)
            return losses.detach(), gradient, (logits.argmax(1) == labels).double()

        return judge

    def _fab(self, classify: Classifier, images: Tensor, labels: Tensor) -> Tensor:
        """FAB towards the most likely other classes, from the clean image: without any draws."""
        from torchattacks import FAB

        with torch.no_grad():
            classes = classify(images[:1]).shape[1]
        fab = FAB(classify, norm=dict(linf='Linf', l2='L2')[self.norm], eps=self.radius,
                  steps=self.steps, n_restarts=1, multi_targeted=True, n_classes=min(
                      TARGETS + 1, classes))
        state = torch.get_rng_state()  # it seeds the generator of everybody
        try:
            with torch.enable_grad():
                return fab(images, labels).detach()
        finally:
            torch.set_rng_state(state)
            for parameter in classify.parameters():  # it goes backward through all of them
                parameter.grad = None
