"""The commands: one picture each, and one sentence for each mistake."""
import runpy
import sys

import pytest


@pytest.fixture
def tool(repo, config, checkpoint, tmp_path, monkeypatch, capsys):
    """Run a tool: ``tool(name, *arguments) -> (exit status, what it said)``."""
    def run(name, *arguments):
        path = repo / 'tools' / 'analysis' / f'{name}.py'
        monkeypatch.setattr(sys, 'argv', [
            str(path), str(config), str(checkpoint), '--out', str(tmp_path), *arguments])
        monkeypatch.syspath_prepend(str(path.parent))
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(path), run_name='__main__')
        said = capsys.readouterr()
        return end.value.code, said.out + said.err

    return run


@pytest.mark.parametrize('name, arguments, says', [
    ('attention_maps', ['--layers', '0', '--queries', '0.7,0.5'], 'gaussian noise 3'),
    ('attention_stability', ['--images', '2', '--corruption', 'fog', 'snow'], 'small: cosine of'),
    ('attention_stability', ['--images', '1', '--occlude', '0.25', '--heads', 'each'],
     '(single heads), 1 images'),
    ('mask_stability', ['--masks', '3', '--image', '1'], 'cosine over 3 masks: median'),
    ('head_diversity', ['--images', '2'], 'cosine between heads'),
    ('head_diversity', ['--images', '1', '--occlude', '0.2'], 'cosine between heads'),
    ('tap_weights', ['--images', '1', '--corruption', 'fog'], 'backbone.blocks.1.tap: identity'),
    ('segmentation_comparison', ['--images', '1', '--names', 'tiny'], 'tiny: pixel accuracy')])
def test_draws(tool, tmp_path, name, arguments, says):
    status, said = tool(name, *arguments)
    assert status == 0 and says in said
    assert all((tmp_path / f'{name}.{suffix}').exists() for suffix in ('png', 'pdf', 'csv'))


@pytest.mark.parametrize('name, arguments, says', [
    ('attention_maps', ['--layers', '9'], "there is no attention layer '9'"),
    ('attention_maps', ['--head', '4'], 'there is no head 4: the layer has the heads 0 to 1'),
    ('attention_maps', ['--image', '77'], 'there is no image 77'),
    ('attention_maps', ['--image', 'none.png'], "there is no image 'none.png'"),
    ('attention_maps', ['--corruption', 'frog'], "unknown corruption 'frog'"),
    ('attention_maps', ['--occlude', '1.5'], '--occlude 1.5 is outside [0, 1)'),
    ('attention_maps', ['--chosen-by', 'afat.pth'], 'say what share of them, such as'),
    ('mask_stability', ['--masks', '0'], '0 masks: draw at least 1'),
    ('mask_stability', ['--patch-size', '48'], 'is not a multiple of the patch of 48 x 48'),
    ('head_diversity', ['--names', 'a', 'b'], '2 names for 1 models: give one for each'),
    ('head_diversity', ['--images', '0'], '0 images: there is nothing to look at'),
    ('tap_weights', ['--images', '-1'], '-1 images: there is nothing to look at'),
    ('head_diversity', ['--cfg-options', 'model.backbone.arch.embed_dims=(32,)',
                        'model.decode_head.in_channels=[8,16,32,32]'],
     'is of another architecture'),
    ('segmentation_comparison', ['--acdc', 'nowhere'], 'no images of ACDC in nowhere')])
def test_one_sentence(tool, tmp_path, name, arguments, says):
    status, said = tool(name, *arguments)
    assert status == 1 and says in said and 'Traceback' not in said
    assert not list(tmp_path.glob('*.png'))


@pytest.mark.parametrize('arguments, says', [
    (['--corruption', 'frog'], "unknown corruption 'frog'"),
    (['--occlude', 'nan'], '--occlude nan is outside [0, 1)'),
    (['--occlude', '0.1', '--patch-size', '0'], 'a patch has at least 1 pixel'),
    (['--occlude', '0.1', '--chosen-by', 'CHECKPOINT'], 'holds no corruption model')])
@pytest.mark.parametrize('name', [
    'attention_maps', 'attention_stability', 'mask_stability', 'head_diversity', 'confidence',
    'tap_weights', 'segmentation_comparison'])
def test_a_condition_is_checked_before_models_are_loaded(tool, monkeypatch, checkpoint, name,
                                                         arguments, says):
    monkeypatch.setattr('mmrobust.analysis.subject.Subject.load', None)
    status, said = tool(name, *(str(checkpoint) if argument == 'CHECKPOINT' else argument
                                for argument in arguments))
    assert status == 1 and says in said and 'Traceback' not in said


def test_a_place_of_one_number(tool):
    status, said = tool('attention_maps', '--queries', '0.7')
    assert status == 2 and "'0.7' is no place: write TOP,LEFT as parts of the image" in said
