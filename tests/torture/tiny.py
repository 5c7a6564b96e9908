"""A training that takes a second, with everything that draws random numbers or keeps a state."""
import random
import time
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
from mmengine.runner import runner
from torch import nn
from torch.utils.data import Dataset
from yapf.yapflib import yapf_api

import mmrobust  # noqa: F401  registers everything

# half of the time of so small a training: the form of the printed config, and a look at compilers
yapf_api.FormatCode = lambda text, **kwargs: (text, False)
runner.collect_env = dict


@MODELS.register_module(force=True)
class TinyModel(BaseModel):
    """A classifier of 4 x 4 images with batch normalisation and dropout."""

    def __init__(self, width=8):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(),
            nn.Dropout(.3), nn.Linear(4 * width, 2))

    def forward(self, inputs, labels, mode='tensor'):
        scores = self.layers(inputs)
        if mode != 'loss':
            return list(zip(scores.argmax(1).tolist(), labels.tolist(), strict=True))
        # draws of every kind, as augmentations of batches make them
        scores = scores * (1 + .1 * random.random() + .1 * np.random.rand())
        return dict(loss=nn.functional.cross_entropy(scores, labels))


@DATASETS.register_module(force=True)
class TinyData(Dataset):
    """Images of noise with random augmentation."""

    metainfo = dict(classes=('a', 'b'))

    def __init__(self, length=13, pause=0.):
        self.length, self.pause = length, pause

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        time.sleep(self.pause)
        fixed = torch.Generator().manual_seed(index)
        image = torch.randn(3, 4, 4, generator=fixed) * (1 + np.random.rand())
        image = image + random.random() + .1 * torch.randn(3, 4, 4)
        return dict(inputs=image, labels=torch.tensor(index % 2))


@METRICS.register_module(force=True)
class TinyAccuracy(BaseMetric):
    """Share of right answers."""

    default_prefix = 'tiny'

    def process(self, data_batch, data_samples):
        self.results += [guess == label for guess, label in data_samples]

    def compute_metrics(self, results):
        np.random.rand(3)  # a validation may draw
        return dict(accuracy=sum(results) / len(results))


class Crash(BaseException):
    """Stands for a kill."""


@HOOKS.register_module(force=True)
class CrashHook(Hook):
    """Ends the process' work before iteration ``at``."""

    def __init__(self, at):
        self.at = at

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.at:
            raise Crash


def loader(workers, shuffle, pause=0., **sampler):
    return dict(
        dataset=dict(type='TinyData', pause=pause), batch_size=3, num_workers=workers,
        persistent_workers=workers > 0, collate_fn=dict(type='default_collate'),
        sampler=dict(type='DefaultSampler', shuffle=shuffle) | sampler)


def tiny_config(folder, by_epoch=False, workers=0, length=None, interval=None, hooks=(),
                seed=5, pause=0., accumulate=1, checkpoint=None, **changes):
    """A config that trains for 3 epochs, or 15 iterations, of 5 iterations."""
    loop = dict(by_epoch=True, max_epochs=length or 3, val_interval=1) if by_epoch else dict(
        by_epoch=False, max_iters=length or 15, val_interval=5)
    sampler = {} if by_epoch else dict(type='InfiniteSampler')
    cfg = dict(
        model=dict(type='TinyModel'), work_dir=str(folder), default_scope='mmengine',
        train_dataloader=loader(workers, True, pause, **sampler),
        val_dataloader=loader(workers, False, pause),
        train_cfg=loop, val_cfg=dict(), val_evaluator=dict(type='TinyAccuracy'),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=.01), accumulative_counts=accumulate),
        param_scheduler=[dict(type='CosineAnnealingLR', T_max=15, by_epoch=False)],
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(type='CheckpointHook', by_epoch=by_epoch,
                            interval=interval or (1 if by_epoch else 4), max_keep_ckpts=1,
                            save_best='tiny/accuracy', rule='greater', **checkpoint or {})),
        custom_hooks=list(hooks), randomness=dict(seed=seed), log_level='WARNING',
        log_processor=dict(by_epoch=by_epoch),
        experiment_name=f'{Path(folder).name}_{time.monotonic_ns()}')
    return Config({**cfg, **changes})


def final_state(folder):
    """Weights, states of optimizers and random generators at the end of a run, by name."""
    from mmrobust.checkpoints import load_foreign

    named = Path((Path(folder) / 'last_checkpoint').read_text())
    checkpoint = load_foreign(Path(folder) / named.name)
    tensors = {}

    def collect(node, name):
        if isinstance(node, (torch.Tensor, float)):
            tensors[name] = torch.as_tensor(node)
        elif isinstance(node, dict):
            for key, value in node.items():
                collect(value, f'{name}.{key}')
        elif isinstance(node, (list, tuple)):
            for i, value in enumerate(node):
                collect(value, f'{name}.{i}')

    for part in ('state_dict', 'ema_state_dict', 'optimizer', 'processes'):
        collect(checkpoint.get(part), part)
    return checkpoint['meta']['iter'], tensors


def assert_same_end(folder, other):
    """Two runs ended with bit-equal states."""
    (iterations, ours), (expected, theirs) = final_state(folder), final_state(other)
    assert iterations == expected and ours.keys() == theirs.keys()
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert not different, f'{len(different)} of {len(ours)} tensors differ: {different[:3]}'
