"""The tools as a user starts them: train, stop, resume, test, on the embedded data set."""
import json
import os
import re
import signal
import subprocess
import sys

import pytest

CONFIG = 'configs/fan_demo_tap_adl_streets.py'
SMALL = ['train_dataloader.dataset.image_size=(64,64)', 'val_dataloader.dataset.image_size=(64,64)',
         'test_dataloader.dataset.image_size=(64,64)', 'val_dataloader.dataset.num_samples=3',
         'test_dataloader.dataset.num_samples=3', 'model.data_preprocessor.size=(64,64)',
         'train_dataloader.batch_size=2', 'model.decode_head.channels=16',
         'default_hooks.logger.interval=1', 'model.diversification.tau=1.0']
SMALL += [f'{part}_dataloader.{key}' for part in ('train', 'val', 'test')
          for key in ('num_workers=0', 'persistent_workers=False')]


def options(**changes):
    return ['--cfg-options', *SMALL, *(f'{k}={v}' for k, v in changes.items())]


def length(iters):
    return {'train_cfg.max_iters': iters, 'train_cfg.val_interval': iters}


def start(repo, *command, **kwargs):
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    return subprocess.Popen([sys.executable, *map(str, command)], cwd=repo, env=env, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kwargs)


def run(repo, *command, expect=0):
    process = start(repo, *command)
    output = process.communicate(timeout=600)[0]
    assert process.returncode == expect, output[-3000:]
    return output


@pytest.fixture(scope='module')
def trained(repo, tmp_path_factory):
    """A work dir after two iterations, and what was printed."""
    folder = tmp_path_factory.mktemp('run')
    output = run(repo, 'tools/train.py', CONFIG, '--work-dir', folder,
                 *options(**length(2), **{'default_hooks.checkpoint.interval': 2}))
    return folder, output


def test_training_logs_both_losses_with_an_estimate(trained):
    folder, output = trained
    assert re.search(r'Iter\(train\) \[2/2\].*eta: .*decode\.loss_ce: .*loss_adl: ', output)
    values = [float(v) for v in re.findall(r'loss_adl: ([\d.]+)', output)]
    assert len(values) == 2 and min(values) > 0
    assert 'mIoU' in output
    assert (folder / 'iter_2.pth').is_file()


def test_resume_goes_on_from_the_last_iteration(repo, trained):
    folder, _ = trained
    output = run(repo, 'tools/train.py', CONFIG, '--work-dir', folder, '--resume',
                 *options(**length(3)))
    assert 'resumed epoch: 0, iter: 2' in output
    assert 'Iter(train) [3/3]' in output and 'Iter(train) [2/3]' not in output


def test_test_writes_pictures_predictions_and_metrics(repo, trained, tmp_path):
    folder, _ = trained
    output = run(repo, 'tools/test.py', CONFIG, folder, '--work-dir', tmp_path / 'work',
                 '--show-dir', tmp_path / 'pictures', '--out', tmp_path / 'predictions.pkl',
                 '--tta', *options())
    assert 'mIoU' in output
    assert len(list((tmp_path / 'pictures').rglob('*.png'))) == 3
    assert (tmp_path / 'predictions.pkl').is_file()


def test_benchmark_by_flag(repo, trained):
    """In the work dir of a training and with its config, which stays the training's."""
    folder, _ = trained
    config, = folder.glob('*.py')
    before = config.read_bytes()
    output = run(repo, 'tools/test.py', config, folder, '--benchmark', 'fog', '--severities', '1')
    assert 'INCOMPLETE' in output
    results = json.loads((folder / 'fog' / 'results.json').read_text())
    assert len(results['cells']) == 2  # clean and fog at severity 1
    assert (folder / 'fog' / 'results.png').is_file()
    assert config.read_bytes() == before and b'fog' not in before
    assert any(b"protocol='fog'" in path.read_bytes() for path in folder.glob(f'*/{config.name}'))


def test_a_training_that_never_began_leaves_the_config(repo, trained):
    folder, _ = trained
    config, = folder.glob('*.py')
    before = config.read_bytes()
    run(repo, 'tools/train.py', CONFIG, '--work-dir', folder,
        *options(**length(3), **{'optim_wrapper.optimizer.betta': 1}), expect=1)
    assert config.read_bytes() == before and b'betta' not in before


def test_a_stopped_run_saves_and_resumes(repo, tmp_path):
    process = start(repo, 'tools/train.py', CONFIG, '--work-dir', tmp_path,
                    *options(**length(1000)))
    seen = ''
    for line in process.stdout:
        seen += line
        if 'Iter(train) [' in line:
            process.send_signal(signal.SIGTERM)
            break
    rest = process.communicate(timeout=300)[0]
    assert process.returncode == 0, seen + rest
    assert 'with --resume continues' in rest
    saved = int(re.search(r'iter_(\d+)\.pth', (tmp_path / 'last_checkpoint').read_text())[1])
    assert saved >= 1
    output = run(repo, 'tools/train.py', CONFIG, '--work-dir', tmp_path, '--resume',
                 *options(**length(saved + 1)))
    assert f'Iter(train) [{saved + 1}/{saved + 1}]' in output


def test_mixed_precision_on_the_cpu_in_two_processes(repo, tmp_path):
    output = run(repo, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2',
                 'tools/train.py', CONFIG, '--work-dir', tmp_path, '--launcher', 'pytorch',
                 '--amp', '--auto-scale-lr', *options(**length(2)))
    assert 'Iter(train) [2/2]' in output
    assert 'Distributed training: True' in output


@pytest.mark.parametrize('arguments,message', [
    (['tools/train.py', 'configs/none.py'], "there is no config 'configs/none.py'"),
    (['tools/train.py', 'configs/fan_b_tap_adl_cityscapes.py'],
     'fan_b_tap_adl_imagenet.pth.*convert_official.py.*--cfg-options model.backbone.init_cfg=None'),
    (['tools/train.py', 'configs/fan_b_cityscapes.py', '--cfg-options',
      'model.backbone.init_cfg=None', 'train_dataloader.dataset.data_root=nowhere'],
     "train_dataloader.dataset.data_root='nowhere' is not there"),
    (['tools/test.py', CONFIG, 'none.pth'], "there is no checkpoint at 'none.pth'"),
    (['tools/train.py', CONFIG, '--cfg-options', 'model.diversification.tau=-1'],
     'tau=-1.*cannot be negative'),
    (['tools/train.py', CONFIG, '--cfg-options', 'model.backbone.tap.num_branches=0'],
     'num_branches=0.*at least 1'),
    (['tools/train.py', CONFIG, '--cfg-options', 'model.backbone.tapp.num_branches=2'],
     "FAN takes no 'tapp', did you mean tap: correct it"),
    (['tools/analysis/ablation.py', CONFIG, 'model.diversification.tau=1', '--benchmark', 'frog'],
     "unknown benchmark 'frog': did you mean fog"),
    (['tools/analysis/ablation.py', CONFIG, 'model.diversification.tau=1', '--benchmark', 'fog',
      '--benchmark-options', 'sead=1'], "unknown option of fog 'sead': did you mean seed"),
    (['tools/analysis/ablation.py', CONFIG, 'model.diversification.tau=1',
      'model.backbone.tap.num_branch=2,4', '--benchmark', 'fog'],
     "the run 'tau=1.num_branch=2-.*TokenAwareAvgPooling takes no 'num_branch'"),
])
def test_mistakes_end_in_one_sentence(repo, tmp_path, arguments, message):
    output = run(repo, *arguments[:2], '--work-dir', tmp_path, *arguments[2:], expect=1) \
        if 'train.py' in arguments[0] else run(repo, *arguments, expect=1)
    assert re.search(message, output), output[-2000:]
    assert 'Traceback' not in output


def test_a_checkpoint_of_another_architecture(repo, trained, tmp_path):
    folder, _ = trained
    output = run(repo, 'tools/test.py', CONFIG, folder, '--work-dir', tmp_path,
                 *options(**{'model.decode_head.channels': 24}), expect=1)
    assert 'another architecture' in output
    assert 'Traceback' not in output


def test_print_config(repo):
    output = run(repo, 'tools/print_config.py', 'configs/fan_b_tap_adl_cityscapes.py',
                 '--cfg-options', 'model.diversification.tau=3')
    assert "host='mmseg.EncoderDecoder'" in output and 'tau=3' in output


@pytest.mark.parametrize(('content', 'message'), [
    ('x = (', "line 1: SyntaxError: '(' was never closed: correct it"),
    ("_base_ = '{base}'\nmodel = dict(diversification=dict(tau='two'))",
     "tau='two' is not a number"),
    ("_base_ = '{base}'\nmodel = dict(backbone=dict(tap=dict(num_branches=2.5)))",
     'num_branches=2.5 is not a whole number'),
])
def test_wrong_configs_end_in_one_sentence(repo, tmp_path, content, message):
    config = tmp_path / 'config.py'
    config.write_text(content.format(base=repo / CONFIG))
    output = run(repo, 'tools/train.py', config, '--work-dir', tmp_path / 'run', expect=1)
    assert message in output and 'Traceback' not in output
