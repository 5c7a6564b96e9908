"""Flip probability and flip rate of ImageNet-P: how often a prediction changes along a video.

Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", ICLR 2019, section 4.2.
"""
import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS


def flip_probability(predictions: Sequence[int], noise: bool = False, stride: int = 1) -> float:
    """Share of a sequence's frames whose prediction differs from the one before, in percent.

    Args:
        predictions (Sequence[int]): Predicted classes of the frames, in order.
        noise (bool): Whether the frames are independent draws of noise, so that each is compared
            with the first (clean) frame instead of the previous one.
        stride (int): Distance of the compared frames (the difficulty). The sequence falls into
            ``stride`` interleaved ones; noise sequences have stride 1.

    Raises:
        ValueError: If the sequence has no two frames to compare.
    """
    pairs = list(zip(predictions, predictions[stride:], strict=False))
    if not pairs:
        raise ValueError(f'a flip probability needs more than {stride} frames, got '
                         f'{len(predictions)}.')
    if noise:
        pairs = [(predictions[0], prediction) for prediction in predictions[1:]]
    return 100 * sum(a != b for a, b in pairs) / len(pairs)


def load_baseline(path: str | Path, perturbations: Sequence[str]) -> dict[str, float]:
    """Read a baseline's flip probabilities (percent), of AlexNet in the paper.

    Args:
        path (str | Path): JSON, either ``{perturbation: value}`` or the ``results.json`` of the
            baseline model on this benchmark. The paper's values were never published with its
            code, so there is no default.
        perturbations (Sequence[str]): Those that are needed.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is neither, or lacks a perturbation.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'no baseline file {path}: name a JSON file of flip '
                                f'probabilities in percent, such as {{"snow": 12.3}}.')
    try:
        content = json.loads(path.read_text('utf-8'))
        if 'cells' in content:
            content = {c['name']: c['metrics']['flip/probability'] for c in content['cells']}
        baseline = {p: float(content[p]) for p in perturbations if p in content}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f'the baseline file {path} is no JSON of flip probabilities '
                         f'({type(error).__name__}: {error}): it should map each perturbation to '
                         f'a percentage.') from error
    bad = [p for p in perturbations if not baseline.get(p, 0) > 0]
    if bad:
        raise ValueError(f'the baseline file {path} has no positive flip probability of '
                         f'{", ".join(bad)}: mFR needs all of them; add it, or give no baseline '
                         f'for the raw flip probabilities.')
    return baseline


@METRICS.register_module(force=True)
class FlipProbability(BaseMetric):
    """Flip probability of one perturbation of :class:`ImageNetP`, in percent.

    The data set's meta information says how frames are compared.

    Args:
        baseline (float, optional): The baseline model's flip probability in percent; with it the
            flip rate, relative to the baseline, is reported too.
        **kwargs: Arguments of :class:`mmengine.evaluator.BaseMetric`.
    """

    default_prefix = 'flip'
    measurable = False  # frames of videos, not labelled images

    def __init__(self, baseline: float | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.baseline = baseline

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Compare the frames of each sequence of the batch; a sequence lies in one piece."""
        meta = self.dataset_meta
        for index, group in groupby(data_samples, key=lambda sample: sample['sample_idx']):
            predictions = [int(sample['pred_label']) for sample in group]
            if len(predictions) != meta['num_frames']:
                raise ValueError(
                    f'sequence {index} came with {len(predictions)} of {meta["num_frames"]} '
                    f'frames: the data loader of ImageNetP needs collate_fn=dict('
                    f"type='mmrobust.datasets.imagenet_p.collate_sequences').")
            self.results.append(flip_probability(predictions, meta['noise'], meta['stride']))

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        """Mean over the sequences."""
        probability = sum(results) / len(results)
        if self.baseline is None:
            return dict(probability=probability)
        return dict(probability=probability, rate=100 * probability / self.baseline)
