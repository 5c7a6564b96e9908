"""The command `mmrobust`: quick help, names of configs, lists, and the tools as its other names."""
import ast
import os
import subprocess
import sys

import pytest

from mmrobust import cli
from mmrobust.utils.shipped import config_names, find_config, shipped


def call(repo, *arguments, folder=None, expect=0):
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '',
           'PYTHONPATH': os.pathsep.join([str(repo), os.environ.get('PYTHONPATH', '')])}
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=folder or repo, env=env,
                          text=True, capture_output=True, timeout=300)
    assert done.returncode == expect, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_every_command_has_a_short_help_and_its_own_arguments():
    parser = cli.build_parser()
    text = parser.format_help()
    for name in cli.COMMANDS:
        assert f'    {name}' in text
        arguments = vars(parser._subparsers._group_actions[0].choices[name])
        assert len(arguments['description']) > 20


def test_help_imports_nothing_heavy(repo):
    out = call(repo, '-c', '''
import sys
import mmrobust.cli
mmrobust.cli.build_parser().format_help()
heavy = {'torch', 'cv2', 'mmcv', 'mmseg', 'mmpretrain', 'scipy', 'matplotlib', 'numba'}
print(sorted(heavy & set(sys.modules)))
''')
    assert out.strip().endswith('[]')


def test_every_tool_is_a_command_with_the_same_help(repo, monkeypatch, capsys):
    named = {}
    for tool in (repo / 'tools').rglob('*.py'):
        calls = [node for node in ast.walk(ast.parse(tool.read_text()))
                 if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'run_tool']
        assert len(calls) == 1, tool
        named[calls[0].args[0].value] = tool
    assert set(cli.COMMANDS) - set(named) == {
        'app', 'benchmark', 'check', 'export', 'list', 'doctor', 'completion'}
    for command, tool in named.items():
        texts = []
        for argv, start in ((['mmrobust', command, '--help'], cli.main),
                            ([str(tool), '--help'], lambda c=command: cli.run_tool(c))):
            monkeypatch.setattr(sys, 'argv', argv)
            with pytest.raises(SystemExit) as ended:
                start()
            assert ended.value.code == 0
            texts.append(' '.join(capsys.readouterr().out.split()).replace(
                f'mmrobust {command}', tool.name))
        assert texts[0] == texts[1]


def test_a_name_stands_for_a_config_of_ours(repo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = str(repo / 'configs' / 'fan_b_imagenet.py')
    for name in ('fan_b_imagenet', 'fan_b_imagenet.py', 'mmrobust::fan_b_imagenet',
                 'mmrobust::fan_b_imagenet.py', path):
        assert find_config(name) == path
    assert 'fan_b_imagenet' in config_names()
    (tmp_path / 'fan_b_imagenet.py').write_text('')
    assert find_config('fan_b_imagenet.py') == 'fan_b_imagenet.py'  # the user's own goes first
    found = find_config('mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py')
    assert os.path.isfile(found)


@pytest.mark.parametrize(('name', 'sentence'), [
    ('fan_b_imagnet', "no config 'fan_b_imagnet', did you mean fan_b_imagenet or .*list configs"),
    ('configs/fan_b_imagnet.py', 'did you mean fan_b_imagenet'),
    ('mmrobust::x', "no config 'mmrobust::x': `mmrobust list configs` shows ours"),
    ('nowhere::a/b', "no config 'nowhere::a/b': nowhere is not installed"),
    ('mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k.py', 'did you mean segformer_mit-b0'),
])
def test_a_name_of_no_config(name, sentence):
    with pytest.raises(FileNotFoundError, match=sentence):
        find_config(name)


def test_bases_of_ours(repo, tmp_path):
    (tmp_path / 'mine.py').write_text("_base_ = 'mmrobust::fan_t_tap_adl_camvid.py'\n"
                                      'model = dict(decode_head=dict(channels=16))\n')
    (tmp_path / 'plain.py').write_text('import mmrobust\nfrom mmengine.config import Config\n'
                                       "print(Config.fromfile('mine.py').model)\n")
    out = call(repo, 'plain.py', folder=tmp_path)
    assert "'channels': 16" in out and 'mmseg.EncoderDecoder' in out
    assert '_scope_' not in out


@pytest.mark.parametrize('order', [
    'import mmrobust\nfrom mmengine.hub import get_config\n',
    'from mmengine.hub import get_config\nimport mmrobust\n'])
def test_the_hub_finds_ours(repo, tmp_path, order):
    # also in a checkout that nothing has put .mim into, and from a folder elsewhere
    (tmp_path / 'plain.py').write_text(order + """
cfg = get_config('mmrobust::fan_t_imagenet.py', pretrained=True)
print(cfg.model.backbone.arch, cfg.model_path)
print(get_config('mmrobust::fan_demo_tap_adl_streets.py').model.host)  # of no published model
try:
    get_config('mmrobust::fan_t_imagnet.py')
except FileNotFoundError as error:
    print(error)
""")
    out = call(repo, 'plain.py', folder=tmp_path).splitlines()
    assert out[-3].endswith('fan_hybrid_tiny.pth.tar') and out[-3].startswith('tiny_hybrid ')
    assert out[-2] == 'mmseg.EncoderDecoder'
    assert 'did you mean fan_t_imagenet' in out[-1]


@pytest.mark.parametrize(('arguments', 'expected'), [
    (['list', 'configs', 'camvid'], 'fan_t_tap_adl_camvid'),
    (['list', 'corruptions'], 'digital            group: contrast, elastic_transform'),
    (['list', 'benchmarks'], 'cityscapes-c'),
    (['list', 'models', 'fan_t_imagenet'], 'fan_hybrid_tiny.pth.tar'),
    (['config', 'fan_b_tap_adl_cityscapes'], "host='mmseg.EncoderDecoder'"),
    (['doctor'], 'classification           '),
])
def test_what_commands_print(repo, tmp_path, arguments, expected):
    assert expected in call(repo, '-m', 'mmrobust', *arguments, folder=tmp_path)


@pytest.mark.parametrize(('arguments', 'sentence', 'status'), [
    (['config', 'fan_b_tap_adl_cityscape'], 'did you mean fan_b_tap_adl_cityscapes', 1),
    (['list', 'configs', 'nothing'], "no configs with 'nothing' in their name", 1),
    (['trian'], "invalid choice: 'trian'", 2),
])
def test_wrong_commands(repo, tmp_path, arguments, sentence, status):
    out = call(repo, '-m', 'mmrobust', *arguments, folder=tmp_path, expect=status)
    assert sentence in out and 'Traceback' not in out


def test_what_is_shipped_is_there():
    assert (shipped('tools') / 'train.py').is_file()
    with pytest.raises(FileNotFoundError, match="'nothing' of mmrobust is not in"):
        shipped('nothing')


def test_completion_knows_commands_and_options(capsys, monkeypatch):
    pytest.importorskip('shtab', reason='shtab is not installed')
    monkeypatch.setattr(sys, 'argv', ['mmrobust', 'completion', 'bash'])
    assert cli.main() == 0
    out = capsys.readouterr().out
    assert 'benchmark' in out and '--corrupted-root' in out
