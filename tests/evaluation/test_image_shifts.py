"""ImageNet's other test sets as benchmarks, on generated copies and a model that reads colours."""
import gc
import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.runner import Runner

from mmrobust.datasets.imagenet_classes import WNIDS
from mmrobust.datasets.perturbations import NUM_FRAMES, PERTURBATIONS
from mmrobust.evaluation import PROTOCOLS, Cell, apply_benchmark, get_protocol
from mmrobust.evaluation.metrics.corruption_error import ALEXNET_ERROR

pytest.importorskip('mmpretrain')

# a class is told by the grey level 20 + 40 * place; 0 and 3 belong to neither ImageNet-A nor -R
CLASSES = (11, 13, 22, 6, 0, 3)


@MODELS.register_module()
class ColourReader(BaseModel):
    """Predicts the class that the grey level tells; second best is always class 13."""

    def forward(self, inputs, data_samples, mode='tensor'):
        for image, sample in zip(inputs, data_samples, strict=True):
            score = torch.zeros(1000)
            score[13] = 0.1
            score[CLASSES[round((image.mean().item() - 20) / 40)]] = 0.9
            sample.set_pred_score(score).set_pred_label(score.argmax())
        return data_samples


def write(root, label, looks_like, name='0', side=16):
    """An image of a class that has the colour of a class."""
    folder = root / WNIDS[label]
    folder.mkdir(parents=True, exist_ok=True)
    image = np.full((side, side, 3), 20 + 40 * CLASSES.index(looks_like), np.uint8)
    assert cv2.imwrite(str(folder / f'{name}.JPEG'), image)


def write_video(root, looks_like):
    folder = root / WNIDS[11]
    folder.mkdir(parents=True)
    writer = cv2.VideoWriter(
        str(folder / 'a.mp4'), cv2.VideoWriter_fourcc(*'mp4v'), 10, (32, 32))
    for label in looks_like:
        writer.write(np.full((32, 32, 3), 20 + 40 * CLASSES.index(label), np.uint8))
    writer.release()


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    for label in CLASSES:
        write(root / 'imagenet' / 'val', label, 0 if label == 13 else label)
    meta = root / 'imagenet' / 'meta'
    meta.mkdir()
    (meta / 'val.txt').write_text(''.join(f'{WNIDS[i]}/0.JPEG {i}\n' for i in CLASSES))
    write(root / 'imagenet-a', 11, 11)
    write(root / 'imagenet-a', 22, 0)
    write(root / 'imagenet-r', 13, 3)
    for label, looks_like in ((11, 11), (0, 22), (3, 3)):
        write(root / 'imagenet-sketch', label, looks_like)
    for name in ALEXNET_ERROR:
        for severity in range(1, 6):
            cell = root / 'imagenet-c' / name / str(severity)
            write(cell, 11, 11, side=224)
            write(cell, 22, 22 if name == 'fog' and severity < 3 else 0, side=224)
    for name in PERTURBATIONS:
        frames = [11] * NUM_FRAMES.get(name, 31)
        if name == 'tilt':
            frames[10:] = [22] * 21
        elif name == 'gaussian_noise':
            frames[1:16] = [22] * 15
        write_video(root / 'imagenet-p' / name, frames)
    return root


@pytest.fixture
def run(data, tmp_path, monkeypatch):
    """Run a benchmark; returns the content of its results file and the lines of its log."""
    monkeypatch.chdir(data.parent)
    (data.parent / 'data').exists() or (data.parent / 'data').symlink_to(data)

    def run(benchmark, folder='out', **options):
        cfg = Config(dict(
            default_scope='mmpretrain', work_dir=str(tmp_path / 'runs'),
            experiment_name=f'{tmp_path.name}_{benchmark}',
            model=dict(type='ColourReader', data_preprocessor=dict(type='ClsDataPreprocessor')),
            test_dataloader=dict(
                batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=dict(type='ImageNet', data_root=str(data / 'imagenet'), split='val',
                             pipeline=[dict(type='LoadImageFromFile'),
                                       dict(type='ResizeEdge', scale=18),
                                       dict(type='CenterCrop', crop_size=16),
                                       dict(type='PackInputs')])),
            test_evaluator=dict(type='Accuracy', topk=(1, 5)), test_cfg=dict()))
        apply_benchmark(cfg, benchmark, out_dir=str(tmp_path / folder), complete=False, **options)
        Runner.from_cfg(cfg).test()
        logs = sorted((tmp_path / 'runs').rglob('*.log'))
        return (json.loads((tmp_path / folder / 'results.json').read_text()),
                '\n'.join(log.read_text() for log in logs))

    gc.freeze()  # MMEngine collects garbage for each data set that it builds
    yield run
    gc.unfreeze()


@pytest.mark.parametrize(('name', 'among', 'overall'), [
    ('imagenet-a', 50, 50),  # 11 right, 22 wrong
    ('imagenet-r', 100, 0),  # 13 is only second best, but the best of the 200
])
def test_class_subset(run, name, among, overall):
    results, log = run(name)
    assert results['summary']['types'] == {
        'clean-200: accuracy/top1_of_200': 100,  # of 11, 13, 22 and 6, 13 is second best
        'clean-200: accuracy/top1_of_1000': 75,
        f'{name}: accuracy/top1_of_200': among,
        f'{name}: accuracy/top1_of_1000': overall}
    assert f'{name}: accuracy/top1_of_1000' in log


def test_sketch(run):
    results, _ = run('imagenet-sketch')
    assert results['summary']['P'] == pytest.approx(500 / 6)
    assert results['summary']['types']['imagenet-sketch: accuracy/top1'] == pytest.approx(200 / 3)


def test_published_imagenet_c(run):
    results, _ = run('imagenet-c', data_root='data/imagenet-c')
    errors = {name: 50 for name in ALEXNET_ERROR} | {'fog': 30}  # fog: 0 0 50 50 50
    assert results['summary']['mCE'] == pytest.approx(
        sum(errors[name] / constant for name, constant in ALEXNET_ERROR.items()) / 15)


def test_flip_probability_and_rate(run, tmp_path):
    results, log = run('imagenet-p')
    types = results['summary']['types']
    assert types['tilt'] == pytest.approx(100 / 30)  # one change between 31 frames
    assert types['gaussian_noise'] == pytest.approx(50)  # 15 of 30 differ from the first
    assert types['snow'] == types['translate'] == 0
    raw = 'mean flip probability (raw, no baseline given)'
    assert results['summary'][raw] == pytest.approx((50 + 100 / 30) / 10)
    assert raw in log and 'mFR' not in log

    baseline = tmp_path / 'alexnet.json'
    baseline.write_text(json.dumps(dict.fromkeys(PERTURBATIONS, 25)))
    results, _ = run('imagenet-p', 'rate', baseline=str(baseline))
    assert results['summary']['mFR'] == pytest.approx(4 * (50 + 100 / 30) / 10)


def test_robustness_is_one_table_of_all_that_is_there(run, data):
    results, log = run('robustness')
    c_errors = {name: 50 for name in ALEXNET_ERROR} | {'fog': 30}
    expected = {
        'ImageNet-C mCE': sum(c_errors[n] / c for n, c in ALEXNET_ERROR.items()) / 15,
        'ImageNet-P mean flip probability (raw, no baseline given)': (50 + 100 / 30) / 10,
        'ImageNet-A top-1 of 200 classes': 50,
        'ImageNet-R top-1 of 200 classes': 100,
        'ImageNet-Sketch top-1': 200 / 3}
    assert results['summary']['P'] == pytest.approx(500 / 6)
    assert results['summary']['types'] == pytest.approx(expected)
    assert results['finished'] == results['expected'] == 1 + 75 + 10 + 3
    for name in expected:
        assert name in log


def test_robustness_leaves_out_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'data' / 'imagenet-r').mkdir(parents=True)
    protocol = get_protocol('robustness')
    assert protocol.cells[-1].dataset['type'] == 'ImageNetR'
    assert len(protocol.cells) == 1 + 75 + 1 and protocol.cells[1].corruption is not None
    assert protocol.cells[0] == Cell('clean')


def test_missing_folders_are_named_before_work_starts(run):
    with pytest.raises(FileNotFoundError, match='ImageNetC finds no folder nowhere/'):
        run('imagenet-c', data_root='nowhere')


@pytest.mark.parametrize(('name', 'kind'), [('cifar10-c', 'CIFAR10C'), ('cifar100-c', 'CIFAR100C')])
def test_published_cifar_c(name, kind):
    protocol = get_protocol(name, data_root='data/CIFAR-C')
    assert len(protocol.cells) == 76
    assert protocol.cells[7].dataset == dict(
        type=kind, data_root='data/CIFAR-C', corruption='shot_noise', severity=2)
    assert protocol.cells[7].corruption is None


def test_arrays_of_cifar_c_are_ready_made_images_too(tmp_path):
    (tmp_path / 'labels.npy').touch()
    cell = get_protocol('cifar10-c', corrupted_root=str(tmp_path)).cells[7]
    assert cell.dataset['type'] == 'CIFAR10C' and cell.corrupted_root is None


def test_no_published_copy_of_cityscapes_c():
    with pytest.raises(ValueError, match='cityscapes-c has no .* data_root: .* corrupted_root'):
        get_protocol('cityscapes-c', data_root='data/cityscapes_c')


def test_base_configs_name_protocols(repo):
    files = sorted((repo / 'configs' / '_base_' / 'benchmarks').glob('*.py'))
    assert 'robustness' in {path.stem for path in files}
    for path in files:
        assert path.stem.replace('_', '-') == Config.fromfile(path).benchmark.protocol
        assert path.stem.replace('_', '-') in PROTOCOLS
