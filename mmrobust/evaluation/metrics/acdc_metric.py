"""IoU on ACDC, condition by condition, and the files that its server takes."""
import os
import os.path as osp
import zipfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from mmengine.registry import METRICS

from mmrobust.utils.hosts import require

require('mmseg')
from mmseg.evaluation import IoUMetric

from mmrobust.utils.files import write_atomically

FOLDER = 'labelTrainIds'
MEAN, ALL = 'mean_of_conditions', 'all_images_together'


@METRICS.register_module(force=True)
class ACDCMetric(IoUMetric):
    """mIoU of every condition, their mean, and one mIoU over all images together.

    The tables of papers hold the mean, ``mean_of_conditions/mIoU``; the evaluation server's figure
    is ``all_images_together/mIoU``, for which intersections and unions are summed over the images
    of the four conditions. The two differ, by a point or more.

    Args:
        submission_dir (str, optional): Do not score (the test split has no labels) but write the
            predictions to ``<submission_dir>/labelTrainIds/<image name>.png`` and zip them.
        **kwargs: Arguments of :class:`mmseg.evaluation.IoUMetric`.
    """

    def __init__(self, submission_dir: str | None = None, **kwargs) -> None:
        self.submission_dir = submission_dir
        if submission_dir is not None:
            kwargs.update(format_only=True, output_dir=osp.join(submission_dir, FOLDER))
        super().__init__(**kwargs)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Collect (condition, areas) of each image, or its name where nothing is scored."""
        for sample in data_samples:
            path = Path(sample['img_path'])
            before = len(self.results)
            super().process(data_batch, [sample])
            if self.format_only:
                self.results.append(path.name)
            else:
                # .../{condition}/{split}/{recording}/{name}
                self.results[before:] = [(path.parts[-4], areas)
                                         for areas in self.results[before:]]

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Metrics by ``condition/name``; none for a submission."""
        if self.format_only:
            self._zip(sorted(set(results)))
            return {}
        groups: dict[str, list] = {}
        for condition, areas in results:
            groups.setdefault(condition, []).append(areas)
        by_condition = {name: super(ACDCMetric, self).compute_metrics(groups[name])
                        for name in sorted(groups)}
        together = super().compute_metrics([areas for _, areas in results])
        mean = {name: fmean(scores[name] for scores in by_condition.values())
                for name in together}
        return {f'{group}/{name}': float(value)
                for group, scores in {**by_condition, MEAN: mean, ALL: together}.items()
                for name, value in scores.items()}

    def _zip(self, names: list[str]) -> None:
        def write(path: str) -> None:
            with zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as archive:
                for name in names:
                    # a fixed date: the same predictions make the same archive
                    entry = zipfile.ZipInfo(f'{FOLDER}/{name}')
                    archive.writestr(entry, Path(self.output_dir, name).read_bytes())

        write_atomically(os.path.join(self.submission_dir, f'{FOLDER}.zip'), write)
