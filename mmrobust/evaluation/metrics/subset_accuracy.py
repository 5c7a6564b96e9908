"""Accuracy on data sets that hold only some of the classes a model knows."""
from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from mmrobust.datasets.imagenet_classes import CLASS_SETS, class_indices


@METRICS.register_module(force=True)
class SubsetAccuracy(BaseMetric):
    """Top-1 accuracy on ImageNet-A or ImageNet-R, in percent, by both conventions.

    ``top1_of_200`` looks for the best of the subset's 200 classes (as published), and
    ``top1_of_1000`` for the best of all classes. Labels are ImageNet-1k indices. Images of other
    classes do not count, so that on ImageNet's validation set it is the clean baseline; where
    there is no image of the subset, the result is NaN.

    Args:
        class_set (str): ``'imagenet-a'`` or ``'imagenet-r'``.
        **kwargs: Arguments of :class:`mmengine.evaluator.BaseMetric`.
    """

    default_prefix = 'accuracy'
    measurable = False  # the model answers with more classes than count

    def __init__(self, class_set: str, **kwargs) -> None:
        super().__init__(**kwargs)
        self.columns = torch.tensor(class_indices(class_set))

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep, for each image, whether either convention hits the label."""
        num_classes = len(CLASS_SETS['imagenet'])
        for sample in data_samples:
            score, label = sample['pred_score'].cpu(), int(sample['gt_label'])
            if score.numel() != num_classes:
                raise ValueError(f'SubsetAccuracy needs the scores of ImageNet\'s {num_classes} '
                                 f'classes, the model gives {score.numel()}: test a model '
                                 'trained on them.')
            if label not in self.columns:
                self.results.append(None)
                continue
            among = int(self.columns[score[self.columns].argmax()])
            self.results.append((among == label, int(score.argmax()) == label))

    def compute_metrics(self, results: list[tuple[bool, bool] | None]) -> dict[str, float]:
        """Share of the hits."""
        hits = torch.tensor([hit for hit in results if hit is not None]).reshape(-1, 2)
        among, overall = (100 * hits.double().mean(0)).tolist()
        return {f'top1_of_{len(self.columns)}': among,
                f'top1_of_{len(CLASS_SETS["imagenet"])}': overall}
