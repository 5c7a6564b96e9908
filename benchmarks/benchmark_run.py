"""Images per second of whole cells of a benchmark, with a model that costs nothing.

    python benchmarks/benchmark_run.py [--benchmarks cityscapes-c imagenet-c] [--images FOLDER]

Three ways over the same images, cells and data loader, in turn, on one core: ours, ours without
keeping decoded images, and a plain pipeline that calls imagecorruptions-imaug after it loaded the
image, as other tools do (on fewer images: it is slow).
"""
import argparse
import contextlib
import io
import logging
import os
import tempfile
import time
from pathlib import Path

for variable in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'):
    os.environ[variable] = '1'

import cv2  # noqa: E402
import imagecorruptions  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from corruptions import scene  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.registry import METRICS, MODELS, TRANSFORMS, init_default_scope  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

import mmrobust  # noqa: E402, F401
from mmrobust.evaluation import apply_benchmark  # noqa: E402
from mmrobust.evaluation.protocols import get_protocol  # noqa: E402
from mmrobust.utils.tables import format_table  # noqa: E402

SIZES = {'cityscapes-c': (2048, 1024), 'imagenet-c': (500, 375)}
SUFFIXES = {'cityscapes-c': '.png', 'imagenet-c': '.jpg'}


@MODELS.register_module()
class CostlessModel(torch.nn.Module):
    """Answers without looking."""

    def test_step(self, data: dict) -> list:
        return data['data_samples']


@METRICS.register_module()
class CostlessMetric:
    """Counts the images, and finds all answers right."""
    dataset_meta = None
    prefix = None
    measurable = False

    def __init__(self) -> None:
        self.results: list = []

    def process(self, data_batch: dict, data_samples: list) -> None:
        self.results += [None] * len(data_samples)

    def compute_metrics(self, results: list) -> dict[str, float]:
        return {'mIoU': 100., 'accuracy/top1': 100.}

    def evaluate(self, size: int) -> dict[str, float]:
        self.results.clear()
        return self.compute_metrics([])


@TRANSFORMS.register_module()
class PlainCorruption:
    """What a user writes who has the reference package."""

    def __init__(self, name: str, severity: int) -> None:
        self.name, self.severity = name, severity

    def __call__(self, results: dict) -> dict:
        with contextlib.redirect_stdout(io.StringIO()):
            results['img'] = imagecorruptions.corrupt(results['img'], self.severity, self.name)
        return results


def write(folder: Path, name: str, count: int, source: str | None) -> Config:
    """Images and labels, and the config that tests on them."""
    width, height = SIZES[name]
    files = sorted(path for path in Path(source).rglob('*.*') if path.suffix in (
        '.jpg', '.png', '.JPEG') and 'gtFine' not in path.name)[:count] if source else []
    for i in range(count):
        image = cv2.resize(cv2.imread(str(files[i])), (width, height),
                           interpolation=cv2.INTER_CUBIC) if i < len(files) else np.roll(
            scene(width, height), 97 * i, axis=1)
        path = folder / f'images/a/{i:03}{SUFFIXES[name]}'
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
        label = folder / f'labels/a/{i:03}.png'
        label.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(label), np.zeros((height, width), np.uint8))
    if name == 'cityscapes-c':
        scope, dataset = 'mmseg', dict(
            type='BaseSegDataset', data_root=str(folder), img_suffix='.png', seg_map_suffix='.png',
            data_prefix=dict(img_path='images', seg_map_path='labels'),
            metainfo=dict(classes=('all', 'none')),
            pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
                      dict(type='PackSegInputs')])
    else:
        scope, dataset = 'mmpretrain', dict(
            type='CustomDataset', data_root=str(folder), data_prefix='images',
            pipeline=[dict(type='LoadImageFromFile'),
                      dict(type='ResizeEdge', scale=256, edge='short'),
                      dict(type='CenterCrop', crop_size=224), dict(type='PackInputs')])
    return Config(dict(
        default_scope=scope, model=dict(type='CostlessModel'), log_level='ERROR',
        work_dir=str(folder / 'work'), test_cfg=dict(type='TestLoop'),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=10 ** 9)),
        test_evaluator=dict(type='CostlessMetric'),
        test_dataloader=dict(
            dataset=dataset, batch_size=1, num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False))))


def test(cfg: Config, number: int) -> float:
    """Processor seconds of a test."""
    cfg.experiment_name = f'run{number}'
    with contextlib.redirect_stdout(io.StringIO()):
        runner = Runner.from_cfg(cfg)
        began = time.process_time()
        runner.test()
    return time.process_time() - began


def ours(base: Config, name: str, severities: list[int], image_cache: float, number: int
         ) -> float:
    cfg = base.copy()
    apply_benchmark(cfg, name, severities=severities, image_cache=image_cache,
                    out_dir=str(Path(cfg.work_dir, str(number))))
    return test(cfg, number)


def plain(base: Config, cells: list, images: int, number: int) -> float:
    spent = 0.
    for i, cell in enumerate(cells):
        cfg = base.copy()
        dataset = cfg.test_dataloader.dataset
        dataset.indices = images
        if cell.corruption:
            place = 1 + 2 * (cfg.default_scope == 'mmpretrain')  # after its Resize and CenterCrop
            dataset.pipeline.insert(place, dict(
                type='PlainCorruption', name=cell.name, severity=cell.severity))
        spent += test(cfg, number * 1000 + i)
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--benchmarks', nargs='+', choices=SIZES, default=list(SIZES))
    parser.add_argument('--images', help='folder of pictures to enlarge; drawn ones without it')
    parser.add_argument('--count', type=int, default=8, help='images of ours')
    parser.add_argument('--plain-count', type=int, default=1, help='images of the plain pipeline')
    parser.add_argument('--severities', type=int, nargs='+', default=[3])
    parser.add_argument('--rounds', type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    logging.disable(logging.WARNING)
    rows: list = [['benchmark', 'cells', 'way', 'images per second', 'to the plain pipeline'], None]
    for name in args.benchmarks:
        cells = get_protocol(name, None, args.severities).selected
        with tempfile.TemporaryDirectory() as folder:
            base = write(Path(folder), name, args.count, args.images)
            init_default_scope(base.default_scope)
            rates: dict[str, list[float]] = {'kept decoded': [], 'decoded in each cell': [],
                                             'imagecorruptions': []}
            for number in range(args.rounds):
                total = args.count * len(cells)
                rates['kept decoded'].append(
                    total / ours(base, name, args.severities, 8, 2 * number))
                rates['decoded in each cell'].append(
                    total / ours(base, name, args.severities, 0, 2 * number + 1))
            rates['imagecorruptions'].append(args.plain_count * len(cells) / plain(
                base, cells, args.plain_count, 9))
        slowest = max(rates['imagecorruptions'])
        rows += [[name, str(len(cells)), way, f'{max(found):.1f}', f'{max(found) / slowest:.1f}']
                 for way, found in rates.items()]
    print(format_table(rows, text_columns=3))


if __name__ == '__main__':
    main()
