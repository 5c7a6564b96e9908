"""A small segmenter with TAP and ADL on a few drawn street scenes."""
import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from mmrobust.apis.config import adapt_to_cpu, load_config

CONFIG = '''
_base_ = {base!r}
model = dict(
    backbone=dict(arch=dict(stem_dims=(8, 16), depths=(2,), embed_dims=(16,), num_heads=(2,),
                            out_indices=(1, -1))),
    decode_head=dict(in_channels=[8, 16, 16, 16], channels=16))
test_dataloader = dict(num_workers=0, persistent_workers=False,
                       dataset=dict(num_samples=6, image_size=(96, 64)))
'''


@pytest.fixture(scope='session')
def config(repo, tmp_path_factory):
    """Path of its config."""
    pytest.importorskip('mmseg')
    path = tmp_path_factory.mktemp('config') / 'small.py'
    path.write_text(CONFIG.format(base=str(repo / 'configs' / 'fan_demo_tap_adl_streets.py')))
    return path


@pytest.fixture(scope='session')
def checkpoint(config):
    """Weights whose attention is far from uniform."""
    cfg = load_config(str(config))
    adapt_to_cpu(cfg)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            nn.init.normal_(parameter, std=0.5)
    path = config.with_name('small.pth')
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    return path


@pytest.fixture
def subject(config, checkpoint):
    """The model, loaded."""
    from mmrobust.analysis.subject import Subject

    cfg = load_config(str(config))
    adapt_to_cpu(cfg)
    return Subject.load(cfg, str(checkpoint), 'small')
