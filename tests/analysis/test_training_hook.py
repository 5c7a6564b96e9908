"""Attention statistics during training."""
import copy
import json
from uuid import uuid4

import pytest
import torch
from mmengine.runner import Runner

from mmrobust.analysis.capture import attention_layers
from mmrobust.analysis.statistics import STATISTICS
from mmrobust.analysis.training_hook import AttentionStatisticsHook

HOOK = dict(type='AttentionStatisticsHook', interval=2, num_images=1, per_layer=True)


def train(cfg, checkpoint, work_dir, hooks):
    """Losses and statistics of four iterations, from the file that the visualizer wrote."""
    cfg = copy.deepcopy(cfg)
    name = uuid4().hex  # runners of one process share what has one name
    cfg.merge_from_dict(dict(
        load_from=str(checkpoint), work_dir=str(work_dir), experiment_name=name, custom_hooks=hooks,
        visualizer=dict(name=name), randomness=dict(seed=0),
        default_hooks=dict(logger=dict(interval=1)),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=4),
        model=dict(data_preprocessor=dict(size=(64, 96))),
        train_dataloader=dict(batch_size=2, num_workers=0, persistent_workers=False,
                              dataset=dict(num_samples=4, image_size=(96, 64)))))
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
    Runner.from_cfg(cfg).train()
    log, = work_dir.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_curves_and_untouched_training(subject, checkpoint, tmp_path):
    """Logged to the files of the visualizer; the losses are those of a run without the hook."""
    plain = train(subject.cfg, checkpoint, tmp_path / 'plain', [])
    logged = train(subject.cfg, checkpoint, tmp_path / 'logged', [HOOK])
    assert len(plain) == 4
    assert [row['loss'] for row in plain] == [row['loss'] for row in logged]
    assert not any('attention/adl' in row for row in plain)
    for row in logged:
        assert 0 <= row['attention/adl'] <= 1
        assert 0 < row['attention/head_similarity'] <= 1
        assert row['attention/row_entropy'] == pytest.approx(
            (row['attention/row_entropy/0'] + row['attention/row_entropy/1']) / 2, rel=1e-4)
    entropies = [row['attention/row_entropy'] for row in logged]
    assert entropies[0] != entropies[1] == entropies[2] != entropies[3]


def test_restores_modes_and_random_numbers(subject):
    model = subject.model.train()
    model.backbone.blocks[0].eval()
    hook = AttentionStatisticsHook(statistics=list(STATISTICS))
    hook._names = list(attention_layers(model))
    batch = dict(inputs=[torch.randint(0, 255, (3, 64, 96), dtype=torch.uint8)] * 3)
    state, modes = torch.get_rng_state(), [m.training for m in model.modules()]
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    assert hook._measure(model, batch).shape == (len(STATISTICS), 2)
    assert torch.equal(state, torch.get_rng_state())
    assert modes == [m.training for m in model.modules()]
    assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())


def test_unknown_statistic():
    with pytest.raises(ValueError, match="unknown attention statistic 'warmth': choose from head"):
        AttentionStatisticsHook(statistics=['warmth'])
