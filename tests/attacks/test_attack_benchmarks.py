"""The attacks as benchmarks: one command, resumable, the same in several processes."""
import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from attack_tools import BACKBONE, PATCH, PREPROCESSOR, images_of, trained_classifier
from mmengine.config import Config
from mmengine.runner import Runner

from mmrobust.evaluation import apply_benchmark
from mmrobust.evaluation.protocols import get_protocol
from mmrobust.evaluation.tables import results_table

SCRIPT = '''
import os
import sys
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmrobust.evaluation import apply_benchmark

torch.distributed.init_process_group('gloo')
cfg = Config.fromfile(sys.argv[1])
cfg.work_dir = sys.argv[2] + '_work'
cfg.launcher = 'pytorch'
cfg.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None)
apply_benchmark(cfg, 'pgd', radii=[8, 32], out_dir=sys.argv[2])
Runner.from_cfg(cfg).test()
torch.distributed.barrier()
os._exit(0)  # threads of the group may abort an interpreter that ends
'''


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """A classifier, its weights and a folder of images, as a user has them."""
    root = tmp_path_factory.mktemp('attacked')
    images, labels = images_of(12, seed=5)
    for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        path = root / f'val/{label}/{i}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image.permute(1, 2, 0).numpy())
    torch.save(dict(state_dict=trained_classifier().state_dict(), meta={}), root / 'model.pth')
    backbone, preprocessor = dict(BACKBONE, out_type='cls_token'), dict(PREPROCESSOR)
    preprocessor.pop('type')
    (root / 'small.py').write_text(f'''
default_scope = 'mmpretrain'
custom_imports = dict(imports=['mmrobust'])
work_dir = {str(root)!r}
load_from = {str(root / 'model.pth')!r}
data_preprocessor = {preprocessor}
model = dict(type='ImageClassifier', backbone={backbone},
             head=dict(type='LinearClsHead', num_classes=3, in_channels=24))
test_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='CustomDataset', data_root={str(root)!r}, data_prefix='val',
                 pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')]))
test_evaluator = dict(type='Accuracy', topk=(1,))
test_cfg = dict()
''')
    return root / 'small.py'


@pytest.fixture
def benchmark(config, tmp_path):
    def run(name, out='out', **options):
        cfg = Config.fromfile(config)
        cfg.work_dir = str(tmp_path)
        cfg.experiment_name = f'{name}_{out}_{len(options)}'
        apply_benchmark(cfg, name, out_dir=str(tmp_path / out), **options)
        Runner.from_cfg(cfg).test()
        results = json.loads((tmp_path / out / 'results.json').read_text())
        return {(cell['name'], cell['severity']): cell['metrics']['accuracy/top1']
                for cell in results['cells']}

    return run


def test_pgd_resumes_and_equals_two_processes(benchmark, config, tmp_path):
    values = benchmark('pgd', radii=[8, 32])
    assert list(values) == [('clean', 0), ('pgd_8', 0), ('pgd_32', 0)]
    assert values['clean', 0] > 90
    assert values['clean', 0] >= values['pgd_8', 0] >= values['pgd_32', 0] < 50
    benchmark('pgd', 'part', radii=[8, 32], corruptions='pgd_8')
    benchmark('pgd', 'part', radii=[8, 32])
    whole = (tmp_path / 'out/results.json').read_bytes()
    assert (tmp_path / 'part/results.json').read_bytes() == whole

    script = tmp_path / 'two.py'
    script.write_text(SCRIPT)
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    done = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2',
         str(script), str(config), str(tmp_path / 'two')], capture_output=True, text=True,
        env={**os.environ, 'PYTHONPATH': root, 'OMP_NUM_THREADS': '1'})
    assert done.returncode == 0, done.stderr[-2000:]
    two = json.loads((tmp_path / 'two/results.json').read_text())
    for cell, own in zip(two['cells'], json.loads(whole)['cells'], strict=True):
        # batches of other sizes are rounded another way, so confidences differ a little
        for name, value in own.pop('measures').items():
            np.testing.assert_allclose(np.array(cell['measures'][name], float),
                                       np.array(value, float), rtol=1e-4, err_msg=name)
        cell.pop('measures')
        assert cell == own


def test_patch_attacks(benchmark, tmp_path):
    values = benchmark('patch-corruption', masks=2, ratio=.25, patch_size=PATCH)
    assert list(values) == [('clean', 0), ('random_patches', 1), ('random_patches', 2)]
    rows = (tmp_path / 'out/spread.csv').read_text().splitlines()
    assert rows[0].startswith('model,metric,name,finished,expected,mean,std,min,q05')
    assert rows[2].startswith('small,accuracy/top1,random_patches,2,2,')
    values = benchmark('patch-fool', 'fool', patch_size=PATCH, choice_layer=1, steps=10)
    assert values['patch_fool', 0] < values['clean', 0]


@pytest.mark.parametrize(('name', 'options', 'message'), [
    ('patch-fool', dict(patch_size=2 * PATCH, choice_layer=1),
     'set patch_size to the stride of the tokens'),
    ('patch-fool', dict(patch_size=12), 'not a multiple of the patch of 12 x 12'),
    ('patch-corruption', dict(masks=1, patch_size=16),
     'ratio=0.1 of 2 x 2 patches is less than one of them: take smaller patches than '
     'patch_size=16, or a ratio of at least 0.25'),
    ('patch-corruption', dict(masks=1, chosen_by='model', patch_size=PATCH),
     'the model has no corruption model')])
def test_what_cannot_be_attacked_is_said_first(benchmark, tmp_path, name, options, message):
    with pytest.raises(ValueError, match=message):
        benchmark(name, **options)
    assert not (tmp_path / 'out/results.json').exists()  # not even the clean cell was tested


def test_protocols():
    names = {cell.name: cell.attack for cell in get_protocol('pgd').cells}
    assert list(names) == ['clean', 'pgd_fgsm', 'pgd_rvt', 'pgd_rspc']
    assert names['pgd_rspc'] == dict(
        type='PGD', radius=8 / 255, step_size=2 / 255, steps=5, random_start=True, seed=0)
    cells = get_protocol('patch-corruption', chosen_by='model').cells
    assert [cell.severity for cell in cells] == [0, *range(1, 11), 0]
    assert len({cell.attack['seed'] for cell in cells[1:-1]}) == 10
    assert get_protocol('patch-fool').cells[1].attack['steps'] == 250


@pytest.mark.parametrize(('name', 'options', 'message'), [
    ('pgd', dict(settings='pgd'), "unknown PGD setting 'pgd': .*known are fgsm, rvt, rspc"),
    ('pgd', dict(step=3), "unknown option of pgd 'step'"),
    ('pgd', dict(steps=0), 'steps=0: the settings .* have their own; give radii too'),
    ('patch-corruption', dict(masks=0), 'masks=0: nothing would be tested'),
    ('patch-corruption', dict(masks='abc'), 'masks=abc: give a whole number'),
    ('patch-corruption', dict(masks=1.5), 'masks=1.5: give a whole number')])
def test_bad_options(name, options, message):
    with pytest.raises(ValueError, match=message):
        get_protocol(name, **options)


def test_bad_attacks_are_refused_before_work_starts(benchmark, tmp_path):
    with pytest.raises(ValueError, match='steps=0 must be above 0'):
        benchmark('pgd', radii=[1], steps=0)
    with pytest.raises(ValueError, match='step_size=0.0 must be above 0'):
        benchmark('pgd', 'size', radii=[1], step_size=0)
    with pytest.raises(ValueError, match=r'ratio=2.0 is outside \[0, 1\)'):
        benchmark('patch-corruption', 'other', ratio=2.)
    assert not (tmp_path / 'out').exists()


def test_autoattack_as_a_benchmark(benchmark, tmp_path):
    options = dict(attacks=['apgd-ce', 'apgd-t', 'square'], steps=8, queries=40)
    values = benchmark('autoattack', radii=[8, 16], **options)
    assert list(values) == [('clean', 0), ('autoattack_8', 0), ('autoattack_16', 0)]
    assert values['clean', 0] > values['autoattack_8', 0] >= values['autoattack_16', 0]
    cell = json.loads((tmp_path / 'out/results.json').read_text())['cells'][2]
    assert cell['attack'] == dict(type='AutoAttack', norm='linf', radius=16 / 255, seed=0,
                                  restarts=1, **options)
    noted = cell['measures']
    assert noted['attack/accuracy_after'] == pytest.approx(values['autoattack_16', 0], abs=1e-3)
    broken = sum(noted[f'attack/changed_by_{name}'] for name in options['attacks'])
    assert noted['attack/accuracy_before'] - broken == pytest.approx(
        noted['attack/accuracy_after'], abs=1e-3)
    table = results_table(json.loads((tmp_path / 'out/results.json').read_text()))
    assert ('autoattack_8: AutoAttack, norm linf, radius 8/255, attacks apgd-ce+apgd-t+square, '
            'steps 8, queries 40, restarts 1') in table
    assert 'MASKED' not in table


@pytest.mark.parametrize(('name', 'options', 'message'), [
    ('autoattack', dict(radii=0), 'radii=0: radii are in grey levels, above 0 and at most 255'),
    ('autoattack', dict(radii=-8), 'radii=-8: radii are'),
    ('sea', dict(radii=256), 'radii=256: radii are in grey levels, above 0 and at most 255'),
    ('segpgd', dict(radii=['x']), 'radii=x: give numbers, in grey levels of 255'),
    ('cospgd', dict(radii=[]), 'radii is empty'),
    ('pgd', dict(norm='l2'), 'norm=l2: the settings fgsm, rvt, rspc have their own')])
def test_radii(name, options, message):
    with pytest.raises(ValueError, match=message):
        get_protocol(name, **options)
    assert [cell.name for cell in get_protocol('sea', radii=128, norm='l2').cells] == [
        'clean', 'sea_128_l2']


@pytest.mark.parametrize('name', ['segpgd', 'cospgd', 'sea'])
def test_attacks_on_segmenters_refuse_classifiers(benchmark, name):
    with pytest.raises(ValueError, match=f'{name} needs a segmenter, this model is a classifier'):
        benchmark(name, radii=8, steps=1)
