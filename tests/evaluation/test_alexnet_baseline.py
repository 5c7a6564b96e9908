"""The config that makes the baseline of mFR computes what torchvision's AlexNet does."""
import pytest
import torch
from mmengine.registry import MODELS

from mmrobust.apis.config import load_config
from mmrobust.apis.launch import build_runner
from mmrobust.evaluation.benchmark import apply_benchmark, brings_its_data


def test_torchvision_weights_give_torchvision_outputs(repo):
    models = pytest.importorskip('torchvision.models')
    pytest.importorskip('mmpretrain')
    cfg = load_config(str(repo / 'configs/alexnet_imagenet.py'))
    theirs = models.alexnet(weights=None).eval()
    ours = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor}).eval()
    ours.load_state_dict({f'backbone.{k}': v for k, v in theirs.state_dict().items()},
                         strict=True)
    image = torch.randint(0, 256, (1, 3, 224, 224), dtype=torch.uint8)  # BGR, as files are read
    inputs = ours.data_preprocessor(dict(inputs=image), False)['inputs']
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (
        (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        expected = theirs((image.flip(1).float() / 255 - mean) / std)
        assert torch.allclose(ours.predict(inputs)[0].pred_score, expected.softmax(1)[0],
                              atol=1e-6)


def test_only_the_videos_are_needed(repo, tmp_path, monkeypatch):
    """ImageNet-P runs without ImageNet; whatever has a clean cell asks for it."""
    pytest.importorskip('mmpretrain')
    monkeypatch.chdir(tmp_path)
    cfg = load_config(str(repo / 'configs/alexnet_imagenet.py'))
    cfg.update(launcher='none', work_dir=str(tmp_path))
    for name, own, asked_for in (('imagenet-p', True, 'no folder data/imagenet-p/gaussian_noise'),
                                 ('imagenet-c', False, "data_root='data/imagenet' is not there")):
        apply_benchmark(cfg, name)
        assert brings_its_data(cfg.test_cfg) == own
        with pytest.raises(FileNotFoundError, match=asked_for):
            build_runner(cfg, ('test',)).test()
    assert not brings_its_data(dict(type='TestLoop'))
