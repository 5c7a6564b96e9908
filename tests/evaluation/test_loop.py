import json
import os
import shutil
import signal
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.registry import TASK_UTILS, TRANSFORMS
from mmengine.runner import Runner

from mmrobust.datasets.corrupted_copy import write_corrupted_copies
from mmrobust.evaluation import apply_benchmark
from mmrobust.evaluation.loop import CorruptionTestLoop
from mmrobust.evaluation.protocols import PROTOCOLS, Cell, Protocol
from mmrobust.evaluation.results import UNMOVED, Results, ResultsMismatchError

FEW = 'gaussian_noise,fog'


def cells(results, metric='mIoU'):
    return {(cell['name'], cell['severity']): cell['metrics'][metric]
            for cell in results['cells']}


def test_runs_every_cell_of_a_foreign_config(benchmark, tmp_path):
    numbers, results = benchmark('cityscapes-c', corruptions=FEW, show_dir=str(tmp_path / 'show'))
    values = cells(results)
    assert list(values) == [('clean', 0), *(('gaussian_noise', s) for s in (1, 2, 3)),
                            *(('fog', s) for s in range(1, 6))]
    assert numbers['P'] == values['clean', 0] > 30
    assert len(set(values.values())) > 4, 'the corruptions change the predictions'
    assert values['fog', 5] < values['clean', 0]
    assert (results['finished'], results['expected']) == (9, 73)
    assert results['summary']['mPC'] is None
    means = [np.mean([values['gaussian_noise', s] for s in (1, 2, 3)]),
             np.mean([values['fog', s] for s in range(1, 6)])]
    assert numbers['mPC_finished'] == pytest.approx(np.mean(means))
    rows = (tmp_path / 'out/results.csv').read_text().splitlines()
    assert rows[0].startswith('benchmark,model,heading,name,severity')
    assert len(rows) == 1 + 9
    assert cv2.imread(str(tmp_path / 'out/results.png')) is not None
    shown = sorted(p.relative_to(tmp_path / 'show').as_posix()
                   for p in (tmp_path / 'show').rglob('*.png'))
    assert len(shown) == 9 * 3 and 'fog/5/aachen/a_0_leftImg8bit.png' in shown


def test_clean_cell_equals_the_ordinary_test(benchmark, segmenter, checkpoint):
    cfg = Config.fromfile(segmenter)
    cfg.work_dir = str(checkpoint.parent)
    cfg.load_from = str(checkpoint)
    plain = Runner.from_cfg(cfg).test()
    numbers, _ = benchmark('fog', severities=1)
    assert numbers['P'] == pytest.approx(plain['mIoU'])


def test_config_inheritance_is_the_flag(benchmark, segmenter, tmp_path, repo):
    flagged = Config.fromfile(segmenter)
    apply_benchmark(flagged, 'cityscapes-c')
    child = tmp_path / 'child.py'
    child.write_text(f'_base_ = [{str(segmenter)!r}, '
                     f'{str(repo / "configs/_base_/benchmarks/cityscapes_c.py")!r}]\n'
                     f'test_cfg = _base_.benchmark\n')
    assert Config.fromfile(child).test_cfg == flagged.test_cfg


def test_goes_on_where_it_stopped(benchmark, tmp_path, monkeypatch):
    _, whole = benchmark(FEW)
    _, part = benchmark(FEW, corruptions='fog', out_dir='other')
    assert part['finished'] == 6 < whole['finished'] == 11
    computed = []
    add = Results.add
    monkeypatch.setattr(Results, 'add', lambda self, cell, *args, **kwargs: (
        computed.append(cell.name), add(self, cell, *args, **kwargs)))
    benchmark(FEW, out_dir='other')
    assert computed == ['gaussian_noise'] * 5
    assert (tmp_path / 'other/results.json').read_bytes() == \
        (tmp_path / 'out/results.json').read_bytes()


def test_killed_in_a_cell_and_two_processes_give_the_same_file(
        segmenter, checkpoint, benchmark, run_benchmark, tmp_path):
    def run(out, *options, **kwargs):
        return run_benchmark(
            segmenter, tmp_path / 'work', 'noise', f'checkpoint={checkpoint}', 'severities=1,2',
            'corruptions=shot_noise', f'out_dir={tmp_path / out}', *options, **kwargs)

    killed = run('killed', 'kill_at=2,1')
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert json.loads((tmp_path / 'killed/results.json').read_text())['finished'] == 2
    two = run('two', processes=2)
    assert two.returncode == 0, two.stderr[-2000:]
    for out in ('killed', 'whole'):
        benchmark('noise', corruptions='shot_noise', severities=[1, 2], out_dir=out)
    whole = (tmp_path / 'whole/results.json').read_bytes()
    assert (tmp_path / 'killed/results.json').read_bytes() == whole
    assert (tmp_path / 'two/results.json').read_bytes() == whole


def test_refuses_other_weights_and_settings(benchmark, segmenter):
    benchmark('fog', severities=1)
    with pytest.raises(ResultsMismatchError, match='the weights differ: others'):
        benchmark('fog', severities=1, checkpoint=None)
    with pytest.raises(ResultsMismatchError, match=r'the protocol differs: seed=1 instead of 0\.'):
        benchmark('fog', severities=1, seed=1)
    with pytest.raises(ResultsMismatchError, match='the benchmark is snow instead of fog'):
        benchmark('snow', severities=1)
    cfg = Config.fromfile(segmenter)
    cfg.test_dataloader.dataset.pipeline[1].scale = (32, 32)
    with pytest.raises(ResultsMismatchError, match=r'the pipeline differs: .*Resize.scale='
                                                   r'\[32, 32\] instead of \[64, 48\]'):
        benchmark('fog', severities=1, cfg=cfg)
    cfg = Config.fromfile(segmenter)
    cfg.test_dataloader.num_workers = 1
    benchmark('fog', severities=2, cfg=cfg)


def test_persistent_workers_see_every_cell(benchmark, segmenter):
    cfg = Config.fromfile(segmenter)
    cfg.test_dataloader.update(num_workers=1, persistent_workers=True)
    _, own = benchmark('gaussian_noise', severities=[1, 5], cfg=cfg)
    _, without = benchmark('gaussian_noise', severities=[1, 5], out_dir='without')
    assert cells(own, 'aAcc') == cells(without, 'aAcc')
    assert len(set(cells(own, 'aAcc').values())) == 3


@pytest.mark.parametrize('workers', [0, 2])
def test_images_are_decoded_once_and_the_results_are_the_same(
        benchmark, segmenter, monkeypatch, caplog, workers):
    def run(image_cache, out):
        cfg = Config.fromfile(segmenter)
        cfg.test_dataloader.num_workers = workers
        return benchmark('cityscapes-c', corruptions='fog', severities=[1, 2], cfg=cfg,
                         image_cache=image_cache, out_dir=out)[1]['cells']

    loaded = []
    monkeypatch.setattr('mmrobust.datasets.images.check_whole',
                        lambda path, kind: loaded.append(path))
    kept = run(8, 'kept')
    images = [path for path in loaded if 'leftImg8bit' in path]
    assert workers or len(images) - len(set(images)) <= 4  # how the data set delivers is looked at
    for cache in 0, 1e-9:
        assert [(cell['name'], cell['metrics'], cell['measures']) for cell in run(cache, str(cache))
                ] == [(cell['name'], cell['metrics'], cell['measures']) for cell in kept]
    with pytest.raises(ValueError, match='image_cache=-1: give the GiB'):
        run(-1, 'wrong')


def test_ready_made_images_equal_those_made_on_the_fly(benchmark, scenes, tmp_path):
    write_corrupted_copies(str(scenes / 'leftImg8bit/val'), str(tmp_path / 'c'), ['frost'], [1],
                           channel_order='bgr')
    _, read = benchmark('cityscapes-c', corruptions='frost', severities=1, out_dir='read',
                        corrupted_root=str(tmp_path / 'c'), show_dir=str(tmp_path / 'seen/read'))
    _, made = benchmark('cityscapes-c', corruptions='frost', severities=1,
                        show_dir=str(tmp_path / 'seen/made'))
    assert cells(read, 'aAcc') == cells(made, 'aAcc')
    for picture in (tmp_path / 'seen/read/frost/1').rglob('*.png'):
        other = tmp_path / 'seen/made' / picture.relative_to(tmp_path / 'seen/read')
        assert np.array_equal(cv2.imread(str(picture)), cv2.imread(str(other)))


def test_missing_ready_made_images_are_named_before_work_starts(benchmark, scenes, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no folder .*fog.3 with the images of fog, sev'):
        benchmark('fog', severities=3, corrupted_root=str(tmp_path / 'c'))
    shutil.copytree(scenes / 'leftImg8bit/val', tmp_path / 'c/fog/3')
    os.remove(tmp_path / 'c/fog/3/aachen/a_1_leftImg8bit.png')
    with pytest.raises(FileNotFoundError, match="a_1_leftImg8bit.png' does not exist"):
        benchmark('fog', severities=3, corrupted_root=str(tmp_path / 'c'))
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('workers', [0, 1])
def test_undecodable_image_is_named(benchmark, segmenter, scenes, tmp_path, workers):
    root = tmp_path / 'scenes'
    shutil.copytree(scenes, root)
    broken = root / 'leftImg8bit/val/aachen/a_1_leftImg8bit.png'
    broken.write_bytes(broken.read_bytes()[:200])
    cfg = Config.fromfile(segmenter)
    cfg.test_dataloader.dataset.data_root = str(root)
    cfg.test_dataloader.num_workers = workers
    with pytest.raises(ValueError, match=r"^image '.*a_1\w+.png' is cut short.*\.$") as error:
        benchmark('fog', cfg=cfg)
    assert '\n' not in str(error.value)


def test_show_other_metric(benchmark):
    _, results = benchmark('fog', severities=1, metric='aAcc')
    assert results['metric'] == 'aAcc'
    with pytest.raises(ValueError, match="no metric 'top1': choose from aAcc, mIoU, mAcc"):
        benchmark('fog', severities=1, metric='top1', out_dir='other')


def test_attack_sees_model_and_batch(benchmark, monkeypatch):
    """A cell may change the batch by an attack instead of the data."""
    class Blackout:
        def __call__(self, model, data_batch):
            assert hasattr(model, 'data_preprocessor')
            return {**data_batch, 'inputs': [0 * image for image in data_batch['inputs']]}

    monkeypatch.setitem(TASK_UTILS.module_dict, 'Blackout', Blackout)
    monkeypatch.setitem(PROTOCOLS, 'blackout', lambda: Protocol(
        'blackout', (Cell('clean'), Cell('black', 1, attack=dict(type='Blackout')))))
    numbers, results = benchmark('blackout')
    assert numbers['mPC'] < numbers['P']
    assert results['finished'] == results['expected'] == 2


def test_images_without_a_gradient_count_once(monkeypatch):
    """Two processes share three images: the first one is there again, to fill the last step."""
    loop = object.__new__(CorruptionTestLoop)
    loop._attack = None
    loop.dataloader = SimpleNamespace(dataset=range(3))
    assert loop._unmoved() == {}
    monkeypatch.setattr('mmrobust.evaluation.loop.all_gather_object',
                        lambda own: [[True, False], [False, True]])
    assert loop._unmoved() == {UNMOVED: 1}


def test_code_of_the_config_may_end_a_worker_but_not_the_run(benchmark, segmenter, monkeypatch):
    monkeypatch.setitem(TRANSFORMS.module_dict, 'Leave', lambda: lambda results: os._exit(3))
    cfg = Config.fromfile(segmenter)
    cfg.test_dataloader.num_workers = 1
    cfg.test_dataloader.dataset.pipeline.insert(1, dict(type='Leave'))
    with pytest.raises(RuntimeError, match='DataLoader worker .* exited unexpectedly'):
        benchmark('fog', cfg=cfg, severities=1)


def test_apply_benchmark_needs_data(segmenter):
    cfg = Config.fromfile(segmenter)
    cfg.val_evaluator = cfg.pop('test_evaluator')
    apply_benchmark(cfg, 'fog')
    assert cfg.test_evaluator == cfg.val_evaluator
    cfg.pop('test_dataloader')
    with pytest.raises(ValueError, match='neither test_dataloader nor val_dataloader'):
        apply_benchmark(cfg, 'fog')


def test_predictions_of_each_cell(benchmark, tmp_path):
    """Kept with their scores, also of a cell that was finished without; numbers stay."""
    first = benchmark('fog', severities=[1])
    before = (tmp_path / 'out/results.json').read_bytes()
    folder = tmp_path / 'predictions'
    benchmark('fog', severities=[1], predictions=str(folder))
    assert sorted(path.name for path in folder.iterdir()) == ['clean.pkl', 'fog_1.pkl']
    assert (tmp_path / 'out/results.json').read_bytes() == before and first is not None
    kept = load(folder / 'fog_1.pkl')
    assert len(kept) == 3 and 'seg_logits' in kept[0] and 'pred_sem_seg' in kept[0]
    (folder / 'clean.pkl').unlink()
    changed = (folder / 'fog_1.pkl').stat().st_mtime_ns
    benchmark('fog', severities=[1], predictions=str(folder))
    assert (folder / 'clean.pkl').exists()
    assert (folder / 'fog_1.pkl').stat().st_mtime_ns == changed
