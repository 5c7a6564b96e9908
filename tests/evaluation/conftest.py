"""Small data sets and models, and a script that tests them as a user's would."""
import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from mmrobust.evaluation import apply_benchmark
from mmrobust.utils.results_file import load_results

SCRIPT = '''
import os, signal, sys
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmrobust.evaluation import apply_benchmark

config, work_dir, benchmark, *rest = sys.argv[1:]
options = dict(item.split('=', 1) for item in rest)
kill_at = options.pop('kill_at', None)
cfg = Config.fromfile(config)
cfg.work_dir = work_dir
if 'WORLD_SIZE' in os.environ:
    torch.distributed.init_process_group('gloo')
    cfg.launcher = 'pytorch'
    cfg.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None)
apply_benchmark(cfg, benchmark, **options)
if kill_at:
    cell, batch = map(int, kill_at.split(','))
    from mmrobust.evaluation.loop import CorruptionTestLoop
    run_iter, entered = CorruptionTestLoop.run_iter, []

    def dying(self, idx, data_batch):
        entered.append(idx)
        if entered.count(0) > cell and idx >= batch:
            os.kill(os.getpid(), signal.SIGKILL)
        run_iter(self, idx, data_batch)

    CorruptionTestLoop.run_iter = dying
print('RESULT', Runner.from_cfg(cfg).test())
if 'WORLD_SIZE' in os.environ:
    torch.distributed.barrier()
    sys.stdout.flush()
    os._exit(0)  # threads of the group may abort an interpreter that ends
'''


def write_scenes(root: Path, count: int = 3, size=(48, 64)) -> Path:
    """A data set in Cityscapes layout; sky, road and a car as far as colours go."""
    rng = np.random.RandomState(0)
    for i in range(count):
        image = np.full((*size, 3), (200, 150, 90), np.uint8)
        label = np.full(size, 10, np.uint8)
        horizon = size[0] // 2 + int(rng.randint(-4, 5))
        image[horizon:], label[horizon:] = (90, 90, 90), 0
        x = int(rng.randint(8, size[1] - 20))
        image[horizon - 6:horizon + 6, x:x + 14] = (40, 40, 180)
        label[horizon - 6:horizon + 6, x:x + 14] = 13
        image = np.clip(image + rng.randint(-10, 11, image.shape), 0, 255).astype(np.uint8)
        for folder, name, pixels in (('leftImg8bit', f'a_{i}_leftImg8bit.png', image),
                                     ('gtFine', f'a_{i}_gtFine_labelTrainIds.png', label)):
            path = root / folder / 'val' / 'aachen' / name
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), pixels)
    return root


SEGMENTATION = '''
default_scope = 'mmseg'
custom_imports = dict(imports=['mmrobust'])
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53],
                           std=[58.395, 57.12, 57.375], bgr_to_rgb=True, size_divisor=32),
    backbone=dict(type='ResNetV1c', depth=18, base_channels=4, stem_channels=4, num_stages=2,
                  strides=(1, 2), dilations=(1, 1), out_indices=(0, 1),
                  norm_cfg=dict(type='BN')),
    decode_head=dict(type='FCNHead', in_channels=8, in_index=1, channels=8, num_convs=1,
                     num_classes=19, norm_cfg=dict(type='BN')),
    test_cfg=dict(mode='whole'))
test_dataloader = dict(
    batch_size=1, num_workers={workers}, persistent_workers={workers} > 0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CityscapesDataset', data_root={root!r},
        data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 48)),
                  dict(type='LoadAnnotations'), dict(type='PackSegInputs')]))
test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_cfg = dict(type='TestLoop')
'''


@pytest.fixture(autouse=True)
def one_thread():
    """Models this small are slower with more threads, and much slower on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope='session')
def scenes(tmp_path_factory) -> Path:
    """Root of a small data set in Cityscapes layout."""
    return write_scenes(tmp_path_factory.mktemp('scenes'))


@pytest.fixture(scope='session')
def segmenter(scenes, tmp_path_factory) -> Path:
    """A foreign segmentation config of the small data set."""
    path = tmp_path_factory.mktemp('config') / 'small_segmenter.py'
    path.write_text(SEGMENTATION.format(root=str(scenes), workers=0))
    return path


@pytest.fixture(scope='session')
def checkpoint(segmenter, tmp_path_factory) -> Path:
    """Weights that tell road, sky and car apart, so that corruptions have something to harm."""
    cfg = Config.fromfile(segmenter)
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    batches = list(Runner.build_dataloader(cfg.test_dataloader))
    batch = {key: [batch[key][0] for batch in batches] for key in batches[0]}
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(25):
        data = model.data_preprocessor(batch, training=True)
        loss, _ = model.parse_losses(model(**data, mode='loss'))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    path = tmp_path_factory.mktemp('weights') / 'small.pth'
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    return path


@pytest.fixture
def benchmark(segmenter, checkpoint, tmp_path):
    """Run a benchmark in this process: ``benchmark(name, **options) -> (numbers, results)``."""
    def run(name: str, cfg: Config | None = None, checkpoint=checkpoint, out_dir='out',
            **options):
        cfg = cfg or Config.fromfile(segmenter)
        cfg.work_dir = str(tmp_path / 'work')
        cfg.experiment_name = uuid4().hex
        out = tmp_path / out_dir
        apply_benchmark(cfg, name, checkpoint=str(checkpoint) if checkpoint else None,
                        out_dir=str(out), **options)
        numbers = Runner.from_cfg(cfg).test()
        path = out / 'results.json'
        return numbers, load_results(path) if path.exists() else None

    return run


@pytest.fixture(scope='session')
def run_benchmark(tmp_path_factory, repo):
    """Run a benchmark as a process of its own: ``run(config, work_dir, name, *options)``."""
    script = tmp_path_factory.mktemp('script') / 'run.py'
    script.write_text(SCRIPT)

    def run(*args, processes: int = 1) -> subprocess.CompletedProcess:
        launcher = [] if processes == 1 else [
            '-m', 'torch.distributed.run', f'--nproc_per_node={processes}', '--standalone']
        path = os.pathsep.join(filter(None, [os.environ.get('PYTHONPATH'), str(repo)]))
        return subprocess.run(
            [sys.executable, *launcher, str(script), *map(str, args)], cwd=repo, text=True,
            capture_output=True, env={**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1'})

    return run
