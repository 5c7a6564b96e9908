"""The base configs of classification data sets and schedules, on generated images."""
import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from torch import nn

from mmrobust.datasets.imagenet_classes import WNIDS

pytest.importorskip('mmpretrain')


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmpretrain')


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """ImageNet (list layout) and CIFAR-10 folders with four images each."""
    root = tmp_path_factory.mktemp('data')
    rng = np.random.default_rng(0)
    for i, split in enumerate(('train', 'val')):
        for name, size in (('imagenet', (60, 90)), ('cifar10', (32, 32))):
            for label in range(2):
                folder = root / name / split / (WNIDS[label] if name == 'imagenet' else 'ab'[label])
                folder.mkdir(parents=True)
                for j in range(2):
                    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
                    cv2.imwrite(str(folder / f'{i}{j}.png'), image)
        (root / 'imagenet' / 'meta').mkdir(exist_ok=True)
        (root / 'imagenet' / 'meta' / f'{split}.txt').write_text(''.join(
            f'{WNIDS[label]}/{i}{j}.png {label}\n' for label in range(2) for j in range(2)))
    return root


def load(repo, name):
    return Config.fromfile(repo / 'configs' / '_base_' / name)


def first_batch(loader_cfg, data_root):
    loader_cfg.update(num_workers=0, persistent_workers=False, batch_size=4)
    for dataset in loader_cfg.dataset.get('datasets', [loader_cfg.dataset]):
        dataset.data_root = dataset.data_root.replace('data/', f'{data_root}/')
    return next(iter(Runner.build_dataloader(loader_cfg, seed=0)))


@pytest.mark.parametrize(('name', 'size', 'mixed'), [
    ('imagenet_fan', 224, True), ('imagenet_rvt', 224, True), ('cifar10_folders_32', 32, False)])
def test_batches(repo, images, name, size, mixed):
    cfg = load(repo, f'datasets/{name}.py')
    preprocessor = MODELS.build(cfg.data_preprocessor)
    train = first_batch(cfg.train_dataloader, images)
    assert train['inputs'].shape == (4, 3, size, size)
    out = preprocessor(train, training=True)
    if mixed:
        scores = torch.stack([s.gt_score for s in out['data_samples']])
        assert scores.shape == (4, cfg.data_preprocessor.num_classes)
        torch.testing.assert_close(scores.sum(1), torch.ones(4))
    assert out['inputs'].abs().max() < 4  # normalised

    for split in ('val', 'test'):
        batch = first_batch(cfg[f'{split}_dataloader'], images)
        assert batch['inputs'].shape == (4, 3, size, size)
        assert [s.gt_label.item() for s in batch['data_samples']] == [0, 0, 1, 1]
        rgb = preprocessor(batch)['inputs'] * preprocessor.std + preprocessor.mean
        torch.testing.assert_close(rgb, batch['inputs'].flip(1).float(), atol=1e-3, rtol=0)


def test_deepaugment_joins_three_folders(repo, images):
    for copy in ('EDSR', 'CAE'):
        link = images / 'cifar10_deepaugment' / copy
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(images / 'cifar10' / 'train')
    cfg = load(repo, 'datasets/cifar10_deepaugment_224.py')
    assert first_batch(cfg.train_dataloader, images)['inputs'].shape == (4, 3, 224, 224)
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    assert len(loader.dataset) == 12


def test_deepaugment_with_other_class_folders_is_refused(repo, images, tmp_path):
    """Folders named 0, 1, 10, ... would sort into other labels than those named by class."""
    (tmp_path / 'cifar10').symlink_to(images / 'cifar10')
    for copy in ('EDSR', 'CAE'):
        (tmp_path / 'cifar10_deepaugment' / copy).mkdir(parents=True)
        for number, folder in enumerate(sorted((images / 'cifar10' / 'train').iterdir())):
            (tmp_path / 'cifar10_deepaugment' / copy / str(number)).symlink_to(folder)
    cfg = load(repo, 'datasets/cifar10_deepaugment_224.py')
    with pytest.raises(ValueError, match='meta information'):
        first_batch(cfg.train_dataloader, tmp_path)


def test_repeated_augmentation(repo, images):
    """An epoch is as long as the set but draws a third of it, three times each."""
    cfg = load(repo, 'datasets/imagenet_rvt.py')
    first_batch(cfg.train_dataloader, images)  # sets the paths
    sampler = Runner.build_dataloader(cfg.train_dataloader, seed=0).sampler
    indices = list(sampler)
    assert len(indices) == 4 and indices[0] == indices[1] == indices[2] != indices[3]


@pytest.mark.parametrize('name', ['cifar10_32', 'cifar100_32', 'cifar10_224', 'cifar100_224'])
def test_cifar_from_arrays(repo, name):
    """The original pickles are checked by MMPretrain; here their pipeline, from RGB arrays."""
    cfg = load(repo, f'datasets/{name}.py')
    assert cfg.train_dataloader.dataset.type == name.split('_')[0].upper()
    size, num_classes = int(name.split('_')[1]), 100 if '100' in name else 10
    assert cfg.data_preprocessor.num_classes == num_classes
    rows = [dict(img=np.full((32, 32, 3), (200, 100, 50), np.uint8), gt_label=3) for _ in range(4)]
    for split in ('train', 'val'):
        pipeline = Compose(cfg[f'{split}_dataloader'].dataset.pipeline)
        batch = dict(zip(('inputs', 'data_samples'),
                         zip(*((i['inputs'], i['data_samples'])
                               for i in (pipeline(dict(row)) for row in rows)), strict=True),
                         strict=True))
        batch = {k: list(v) for k, v in batch.items()}
        out = MODELS.build(cfg.data_preprocessor)(batch, training=split == 'train')
        assert out['inputs'].shape == (4, 3, size, size)
    mean, std = (torch.tensor(cfg.data_preprocessor[k]) for k in ('mean', 'std'))
    expected = (torch.tensor([200., 100., 50.]) - mean) / std
    torch.testing.assert_close(out['inputs'][0, :, 5, 5], expected)


class Tiny(nn.Module):
    """One parameter of each kind that the decay rules treat apart."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.norm = nn.LayerNorm(2)
        self.gamma = nn.Parameter(torch.ones(2))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 2))
        self.pos_embed = nn.Conv2d(2, 2, 1)


@pytest.mark.parametrize(('name', 'epochs', 'batch', 'peak', 'last'), [
    ('imagenet_fan', 310, 2048, 2e-3, 1e-6), ('imagenet_rvt', 310, 2048, 2e-3, 1e-5),
    ('cifar_200e', 200, 128, 1.25e-4, 1e-5)])
def test_schedules(repo, tmp_path, name, epochs, batch, peak, last):
    cfg = load(repo, f'schedules/{name}.py')
    cfg.custom_hooks[0].pop('priority')
    runner = Runner(
        Tiny(), str(tmp_path), experiment_name=name, log_level='ERROR',
        train_dataloader=dict(batch_size=batch, num_workers=0, dataset=[0] * batch,
                              sampler=dict(type='DefaultSampler', shuffle=False)),
        train_cfg=cfg.train_cfg, optim_wrapper=cfg.optim_wrapper,
        param_scheduler=cfg.param_scheduler, auto_scale_lr=cfg.auto_scale_lr)
    wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    decayed = {name for name, parameter in runner.model.named_parameters()
               for group in wrapper.optimizer.param_groups
               if any(parameter is p for p in group['params']) and group['weight_decay']}
    expected = {'linear.weight', 'pos_embed.weight'}
    assert decayed == expected | ({'cls_token'} if name == 'imagenet_rvt' else set())

    runner.scale_lr(wrapper, cfg.auto_scale_lr)
    runner.optim_wrapper = wrapper
    schedulers = runner.build_param_scheduler(cfg.param_scheduler)
    rates = []
    for _ in range(cfg.train_cfg.max_epochs):
        rates.append(wrapper.get_lr()['lr'][0])
        wrapper.optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    assert len(rates) == epochs
    assert max(rates) == pytest.approx(peak) and rates[-1] == pytest.approx(last, rel=0.1)
    if epochs == 310:
        assert rates[0] == pytest.approx(1e-6)
        assert rates[299:] == pytest.approx([last] * 11, rel=0.1)
