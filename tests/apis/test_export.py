"""Exported models compute what the model computes, and say what they take."""
import json

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

import mmrobust
from mmrobust.analysis.subject import own_scope
from mmrobust.apis import load_config
from mmrobust.apis.benchmark import use_exported
from mmrobust.models.network import ExportedNetwork
from mmrobust.utils.hosts import release

pytest.importorskip('mmseg')
pytest.importorskip('mmpretrain')

from mmrobust.apis.export import OLDEST_TORCH, LogitsModel, export, quantise  # noqa: E402

SEGMENTER = 'fan_demo_tap_adl_streets'
OPTIONS = {'test_dataloader.dataset.num_samples': 2,
           'test_dataloader.dataset.image_size': (64, 48)}


needs_programs = pytest.mark.skipif(release(torch.__version__) < OLDEST_TORCH,
                                    reason='torch is older than 2.6')


def weights_of(cfg, folder):
    """Random weights and statistics, so that no branch is an identity."""
    torch.manual_seed(0)
    with own_scope(cfg):
        model = MODELS.build(cfg.model).eval()
    for name, buffer in model.named_buffers():
        if name.endswith('running_var'):
            buffer.uniform_(.5, 2)
    torch.save(dict(state_dict=model.state_dict()), folder / 'weights.pth')
    return str(folder / 'weights.pth'), model


@pytest.fixture(scope='module')
def segmenter(tmp_path_factory):
    cfg = load_config(SEGMENTER, OPTIONS)
    cfg.model.backbone.arch.depths = (1,)
    cfg.model.backbone.arch.out_indices = (0, -1)
    cfg.model.backbone.num_class_attention = 1
    cfg.crop_size = (64, 96)
    return cfg, *weights_of(cfg, tmp_path_factory.mktemp('segmenter'))


@pytest.fixture(scope='module')
def classifier(tmp_path_factory):
    cfg = load_config('fan_mini_tap_adl_cifar10')
    cfg.model.backbone.arch.update(embed_dims=(32,), depths=(1,))
    cfg.model.backbone.num_class_attention = 1
    cfg.model.head.in_channels = 32
    return cfg, *weights_of(cfg, tmp_path_factory.mktemp('classifier'))


def same_at_other_sizes(done, model):
    assert done.sizes == (None, 3, None, None) and done.difference < 1e-4
    images = torch.randn(3, 3, 80, 112)
    with torch.no_grad():
        logits, = ExportedNetwork(str(done.path))(images)
        expected = LogitsModel(model)(images)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('which', ['segmenter', 'classifier'])
def test_torchscript(request, tmp_path, which):
    cfg, checkpoint, model = request.getfixturevalue(which)
    done, = export(cfg, checkpoint, [tmp_path / 'model.torchscript'], (64, 96))
    same_at_other_sizes(done, model)


@needs_programs
def test_torch_export(classifier, tmp_path):
    cfg, checkpoint, model = classifier
    done, = export(cfg, checkpoint, [tmp_path / 'model.pt2'], (32, 32))
    same_at_other_sizes(done, model)


@needs_programs
def test_onnx_and_its_quantisation(segmenter, tmp_path):
    for package in ('onnx', 'onnxscript', 'onnxruntime'):
        pytest.importorskip(package, reason=f'{package} is not installed')
    cfg, checkpoint, model = segmenter
    done, = export(cfg, checkpoint, [tmp_path / 'model.onnx'])
    same_at_other_sizes(done, model)
    small = quantise(done.path, tmp_path / 'small.onnx')
    assert small.stat().st_size < done.path.stat().st_size
    images = torch.randn(1, 3, 64, 64)
    exact, coarse = (ExportedNetwork(str(path))(images)[0] for path in (done.path, small))
    difference = (exact - coarse).abs().max() / exact.abs().max()
    assert 1e-5 < difference < .2  # other numbers, of the same model


def test_the_file_in_the_place_of_the_model(segmenter, tmp_path):
    cfg, checkpoint, _ = segmenter
    done, = export(cfg, checkpoint, [tmp_path / 'model.torchscript'])
    extra = {'mmrobust': ''}
    torch.jit.load(str(done.path), _extra_files=extra)
    facts = json.loads(extra['mmrobust'])
    assert facts['channels'] == 'RGB' and facts['mean'] == pytest.approx([123.675, 116.28, 103.53])
    values = [mmrobust.benchmark(cfg, model, 'fog', severities=3, num_workers=0, name=name,
                                 work_dir=str(tmp_path / name)).results['cells']
              for name, model in dict(own=checkpoint, file=str(done.path)).items()]
    for own, exported in zip(*values, strict=True):
        assert exported['metrics'] == pytest.approx(own['metrics'], abs=.1)


def test_what_the_model_does_not_allow_stays_fixed(tmp_path):
    """A ViT's position embedding is of one size: traces of it are too, and say so."""
    cfg = Config(dict(default_scope='mmpretrain', model=dict(
        type='ImageClassifier', backbone=dict(
            type='TAPVisionTransformer', img_size=32, patch_size=8, tap=dict(num_branches=4),
            arch=dict(embed_dims=24, num_layers=1, num_heads=2, feedforward_channels=48)),
        head=dict(type='VisionTransformerClsHead', num_classes=3, in_channels=24))))
    checkpoint, _ = weights_of(cfg, tmp_path)
    done, = export(cfg, checkpoint, [tmp_path / 'vit.torchscript'], (32, 32))
    assert done.sizes[2:] == (32, 32)
    network = ExportedNetwork(str(done.path))
    with pytest.raises(ValueError, match='was exported for inputs of .* x 3 x 32 x 32'):
        network(torch.randn(1, 3, 48, 32))


@pytest.mark.parametrize('change, message', [
    (dict(files=['model.pb']), 'must end with .onnx, .torchscript, .pt2'),
    (dict(shape=(16, 16)), '--shape 16 16: give at least 32 32'),
])
def test_wrong_requests(segmenter, tmp_path, change, message):
    cfg, checkpoint, _ = segmenter
    files = [tmp_path / name for name in change.get('files', ['model.torchscript'])]
    with pytest.raises(ValueError, match=message):
        export(cfg, checkpoint, files, change.get('shape'))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('model, message', [
    (dict(type='Mask2Former'), 'a segmenter with one decode_head, or of a classifier'),
    (dict(type='ImageClassifier', head=dict(type='MultiLabelLinearClsHead', num_classes=3)),
     'tells one class per image'),
])
def test_models_that_are_not_exported(model, message):
    with pytest.raises(ValueError, match=message):
        use_exported(Config(dict(model=model)), 'model.onnx')
