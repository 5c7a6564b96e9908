"""What is tried: for every tool and option, inputs that are wrong and some that are odd but right.

Each function yields the cases of one kind. ``{m}`` in arguments is the folder of
:mod:`materials`. ``wrong`` says what a case is: True, it must end in a sentence; False, it must be
accepted; None, either.
"""
import random
from collections.abc import Iterator
from pathlib import Path

import analyses
from case import (
    ANALYSIS,
    CLASSES,
    CONVERTERS,
    OF_MODELS,
    PLAIN,
    PRINT,
    SMALL,
    TEST,
    TRAIN,
    Case,
)
from materials import CONFIGS, IMAGE_FAULTS, LABEL_FAULTS
from strangers import stranger_cases
from unusual import unusual_cases

# configs that only some tool can find fault with
HARMLESS = {'comment.py', 'empty.py', 'model_none.py', 'only_lambda.py', 'no_train.py',
            'holds_object.py', 'holds_tensor.py', 'base_twice.py', 'classes.json', 'scope_other.py',
            'latin1.py', 'seed_text.py', 'environment.py', 'preprocessor.py', 'launcher.py'}
FINE_TO_PRINT = ('name_error', 'zero_division', 'assertion', 'value_error', 'exits',
                 'endless_recursion', 'missing_name', 'missing_import', 'not_utf8', 'zeros',
                 'syntax', 'no_base', 'base_', 'reserved', 'scope_number', 'broken', 'data.txt',
                 'no_suffix', 'imports_number', 'list.json', 'text.yaml')


def all_cases(seed: int = 0) -> list[Case]:
    """Every case; ``seed`` draws the values of those that are random."""
    cases = [case for make in (
        configs, overrides, random_overrides, train_options, test_options, benchmarks,
        checkpoints, data, print_options, *analyses.KINDS, environments, odd_but_right, command,
        unusual_cases, stranger_cases)
        for case in make(random.Random(seed))]
    return list({case.name: case for case in cases}.values())  # a draw may repeat a listed one


def configs(rng) -> Iterator[Case]:
    missing = ('nowhere.py', '', '-', 'http://localhost:1/x.py', 'mmseg::fcn/no.py', '/dev/null',
               '{m}/a folder.py', '{m}/hollow', '{m}/link.py', 'x' * 300 + '.py', '\udcff.py',
               '{m}/small.pth', '{m}/data/leftImg8bit/val/a/a_0_leftImg8bit.png')
    for name in (*(f'{{m}}/{name}' for name in CONFIGS), *missing):
        stem = name.removeprefix('{m}/')
        broken = name in missing or stem.startswith(FINE_TO_PRINT)
        wrong = None if stem in HARMLESS else True
        yield Case('config', TRAIN, (name, '--work-dir', 'w'),
                   None if stem == 'no_test.py' else wrong)
        yield Case('config', TEST, (name, '{m}/small.pth', '--work-dir', 'w'),
                   None if stem == 'no_optimizer.py' or stem.startswith('scheduler') else wrong)
        yield Case('config', PRINT, (name,), wrong and (broken or None))
    for name in (*rng.sample(sorted(CONFIGS), 12), 'model_number.py', 'no_test.py', 'nowhere.py'):
        for tool in rng.sample(OF_MODELS, 2):
            yield Case('config', ANALYSIS[tool], (f'{{m}}/{name}', '{m}/small.pth'), None)
        yield Case('config', ANALYSIS['complexity'], (f'{{m}}/{name}',), None)
        yield Case('config', ANALYSIS['label_prior'], (f'{{m}}/{name}',), None)


def overrides(rng) -> Iterator[Case]:
    bad = [
        'foo', '=1', '', 'a.=1', '.a=1', 'trian_cfg.max_iters=1', 'model.type.x=1',
        'model=1', 'model=', 'model=None', 'model.backbone=None', 'model.backbone=x',
        'model.backbone.type=FANN', 'model.backbone.type=3', 'model.backbone.tapp.n=1',
        'model.backbone.tap.num_branches=0', 'model.backbone.tap.num_branches=x',
        'model.backbone.tap.num_branches=1e9', 'model.backbone.tap=3',
        'model.backbone.tap.kind=[]', 'model.diversification.tau=nan',
        'model.diversification.tau=abc', 'model.diversification.tau=-1',
        'model.diversification.tau=inf', 'model.diversification.loss_weight=nan',
        'model.diversification.loss_weight=x', 'model.diversification.typ=x',
        'model.diversification=5', 'model.host=', 'model.decode_head.channels=0',
        'model.decode_head.channels=-4', 'model.decode_head.channels=x',
        'model.decode_head.num_classes=0', 'model.decode_head.loss_decode.type=Foo',
        'model.decode_head.in_index=[0,1,2,9]', 'model.data_preprocessor=None',
        'model.data_preprocessor.mean=[1,2]', 'model.data_preprocessor.std=x',
        'train_cfg.max_iters=-5', 'train_cfg.max_iters=0', 'train_cfg.max_iters=1.5',
        'train_cfg.max_iters=abc', 'train_cfg.max_iters=nan', 'train_cfg.val_interval=0',
        'train_cfg.val_interval=-1', 'train_cfg.max_iter=5', 'train_cfg=5', 'train_cfg.type=Foo',
        'train_dataloader.batch_size=0', 'train_dataloader.batch_size=-1',
        'train_dataloader.batch_size=abc', 'train_dataloader.batch_size=1.5',
        'train_dataloader.batch_size=[1]', 'train_dataloader.num_workers=-1',
        'train_dataloader.num_workers=x', 'train_dataloader.persistent_workers=True',
        'train_dataloader.batchsize=2', 'train_dataloader=5', 'train_dataloader.dataset=x',
        'train_dataloader.dataset.type=Foo', 'train_dataloader.dataset.num_samples=-2',
        'train_dataloader.dataset.num_samples=0', 'train_dataloader.dataset.num_samples=x',
        'train_dataloader.dataset.image_size=(0,0)', 'train_dataloader.dataset.image_size=x',
        'train_dataloader.dataset.image_size=(64,)', 'train_dataloader.dataset.split=foo',
        'train_dataloader.dataset.foo=1', 'train_dataloader.sampler.type=Foo',
        'train_dataloader.sampler=None', 'train_dataloader.sampler=x',
        'train_dataloader.collate_fn.type=foo', 'train_dataloader.collate_fn=x',
        'optim_wrapper.optimizer.lr=abc', 'optim_wrapper.optimizer.lr=-1',
        'optim_wrapper.optimizer.lr=nan', 'optim_wrapper.optimizer.lr=[1]',
        'optim_wrapper.optimizer.lr=inf', 'optim_wrapper.optimizer.type=Adamm',
        'optim_wrapper.optimizer.foo=1', 'optim_wrapper.optimizer.betas=3',
        'optim_wrapper.optimizer.betas=(2,3)', 'optim_wrapper.optimizer.weight_decay=x',
        'optim_wrapper.optimizer=None', 'optim_wrapper.type=Foo', 'optim_wrapper=5',
        'optim_wrapper.clip_grad.max_norm=x', 'optim_wrapper.clip_grad=5',
        'optim_wrapper.accumulative_counts=0', 'optim_wrapper.paramwise_cfg=5',
        'optim_wrapper.paramwise_cfg.custom_keys=x', 'optim_wrapper.constructor=Foo',
        'param_scheduler=5', 'param_scheduler=[1]', "param_scheduler=[dict(type='Foo')]",
        "param_scheduler=dict(type='PolyLR',begin=9,end=1,by_epoch=False)",
        "param_scheduler=dict(type='LinearLR',start_factor=-3,by_epoch=False)",
        "custom_hooks=[dict(type='X')]", "custom_hooks=[dict()]", 'custom_hooks=[x]',
        "custom_hooks=[dict(type='EMAHook',momentum=9)]", 'default_hooks=5',
        'default_hooks.logger=5', 'default_hooks.logger.interval=0',
        'default_hooks.logger.interval=x', 'default_hooks.checkpoint.interval=x',
        'default_hooks.checkpoint.interval=0', 'default_hooks.checkpoint.type=Foo',
        'default_hooks.checkpoint.save_best=foo', 'default_hooks.checkpoint.rule=foo',
        'default_hooks.checkpoint.max_keep_ckpts=x', 'default_hooks.foo=5',
        'visualizer=5', 'visualizer.type=Foo', "visualizer.vis_backends=[dict(type='Foo')]",
        'val_evaluator=5', 'val_evaluator.type=Foo', 'val_evaluator.iou_metrics=[mFoo]',
        'val_evaluator.foo=1', 'val_cfg.type=Foo', 'val_cfg=5', 'val_dataloader=None',
        'val_dataloader.batch_size=0', 'env_cfg.mp_cfg.mp_start_method=foo', 'env_cfg=x',
        'randomness.seed=x', 'randomness.seed=-1', 'randomness.foo=1', 'randomness=5',
        'load_from=nowhere.pth', 'load_from=5', 'load_from={m}/bad_list.pth', 'resume=x',
        'default_scope=foo', 'default_scope=5', 'launcher=foo', 'work_dir=5', 'log_level=foo',
        'log_level=5', 'log_processor=5', 'log_processor.window_size=x',
        'custom_imports.imports=[no_such_module]', "a=dict(", 'model.backbone.arch=[1,2',
        'model.backbone.arch.num_heads=(0,)', 'model.backbone.arch.depths=(-1,)',
        'model.backbone.arch.embed_dims=(x,)', 'model.backbone.arch.stem_dims=(0,0)',
        'model.backbone.init_cfg.type=Pretrained', 'model.backbone.drop_path_rate=7',
        'model.backbone.drop_path_rate=x', 'model.test_cfg.mode=foo', 'model.test_cfg=5',
        'auto_scale_lr=5', 'find_unused_parameters=x', 'sync_bn=foo', 'compile=foo',
    ]
    undecided = ('tau=inf', 'val_dataloader=None', 'max_keep_ckpts', 'resume=x', 'work_dir=5',
                 'find_unused', 'sync_bn', 'auto_scale_lr', 'custom_imports', 'drop_path_rate=7',
                 'num_branches=1e9', 'betas', 'init_cfg.type', 'paramwise', 'a=', 'accumulative',
                 'window_size', 'checkpoint.interval=0', 'logger.interval', 'checkpoint.interval=x',
                 'foo=5', 'env_cfg', 'max_norm', 'collate_fn=x', 'start_factor', 'test_cfg',
                 'sampler=None', 'model.host=', 'mp_start', 'num_classes=0', 'rule=foo',
                 'val_evaluator.foo', 'log_level=5', 'save_best', 'seed=-1', 'iou_metrics',
                 'momentum=9', 'vis_backends', 'depths=(-1',
                 'load_from=5', 'randomness=5', 'compile', 'mean=[1,2]', 'tap=3', 'clip_grad=5')
    for text in bad:
        yield Case('overrides', TRAIN, ('{m}/small.py', '--work-dir', 'w', '--cfg-options', text),
                   None if any(part in text for part in undecided) else True)
    for text in ('test_dataloader.batch_size=0', 'test_dataloader.num_workers=-1',
                 'test_dataloader=None', 'test_dataloader=5', 'test_cfg=None', 'test_cfg=5',
                 'test_cfg.type=Foo', 'test_evaluator=None', 'test_evaluator=[]',
                 'test_evaluator.type=Foo', 'test_evaluator=x', 'test_dataloader.dataset=None',
                 'test_dataloader.dataset.num_samples=0', 'test_dataloader.dataset.pipeline=[]',
                 'test_dataloader.dataset.pipeline=x', 'test_dataloader.sampler.type=Foo',
                 'model.backbone.typo=1', 'model.decode_head.channels=24', 'foo.bar=1', 'tets=1'):
        yield Case('overrides', TEST, (*SMALL, '--work-dir', 'w', '--cfg-options', text))
        if 'channels' not in text:
            yield Case('overrides', TEST, (*SMALL, '--work-dir', 'w', '--benchmark', 'fog',
                                           '--severities', '1', '--cfg-options', text),
                       None if text in ('test_cfg=5', 'test_cfg=None', 'test_cfg.type=Foo',
                                        'test_dataloader=None', 'test_evaluator=None') else True)


def random_overrides(rng) -> Iterator[Case]:
    """Any key of the config with any value."""
    keys = ['model.backbone.arch.embed_dims', 'model.backbone.type', 'model.backbone.tap',
            'model.decode_head', 'model.decode_head.in_channels', 'model.decode_head.norm_cfg',
            'model.decode_head.align_corners', 'model.diversification.tau', 'model.type',
            'model.data_preprocessor.size', 'model.data_preprocessor.type', 'train_cfg.type',
            'train_dataloader.dataset.pipeline', 'train_dataloader.sampler.shuffle',
            'train_dataloader.drop_last', 'train_dataloader.pin_memory', 'optim_wrapper.type',
            'optim_wrapper.optimizer', 'optim_wrapper.optimizer.betas', 'param_scheduler',
            'default_hooks.timer', 'default_hooks.checkpoint', 'visualizer.name', 'val_evaluator',
            'val_dataloader.dataset', 'val_dataloader.sampler', 'env_cfg.cudnn_benchmark',
            'log_processor.by_epoch', 'randomness.deterministic', 'crop_size', 'launcher']
    values = ['-1', '0', '1e400', 'nan', 'None', 'True', '', 'x', '[]', '()', '[None]', 'dict()',
              "dict(type='X')", "[dict(type=None)]", "{1:2}", '[[[]]]', '9' * 30, '\u221e', "''",
              '$HOME', '../..', '%s', '{{x}}']
    for key, value in rng.sample([(key, value) for key in keys for value in values], 120):
        yield Case('random override', TRAIN,
                   ('{m}/small.py', '--work-dir', 'w', '--cfg-options', f'{key}={value}'), None)


def train_options(rng) -> Iterator[Case]:
    small = '{m}/small.py'
    for wrong, *arguments in (
            (True,), (True, ''), (True, small, small), (True, small, '--foo'),
            (True, small, '--work-dir'), (True, small, '--work-dir', '/dev/null'),
            (True, small, '--work-dir', '{m}/small.py'), (True, small, '--work-dir', '/proc/x'),
            (True, small, '--work-dir', 'x' * 300), (True, small, '--work-dir', '{m}/small.py/x'),
            (None, small, '--work-dir', ''), (True, small, '--resume', 'nowhere.pth'),
            (True, small, '--resume', ''), (True, small, '--resume', '{m}/a folder.pth'),
            (True, small, '--resume', '{m}/plain.pth'), (True, small, '--resume', small),
            (False, small, '--auto-scale-lr'), (True, small, '--launcher', 'foo'),
            (True, small, '--launcher', 'pytorch'), (True, small, '--launcher', 'slurm'),
            (True, small, '--launcher', 'mpi'), (True, small, '--local_rank', 'x'),
            (True, small, '--cfg-options'),
            (None, small, '--resume', '--work-dir', '{m}/dangling_work'),
            (None, small, '--resume', '--work-dir', '{m}/blank_work'),
            (None, small, '--amp', '--cfg-options', 'optim_wrapper.type=AmpOptimWrapper'),
            (True, small, '--amp', '--cfg-options', 'optim_wrapper.type=Foo'),
            (True, small, '--amp', '--cfg-options', 'optim_wrapper=None'),
            (True, '{m}/no_train.py', '--amp'), (True, '{m}/no_optimizer.py', '--auto-scale-lr'),
            (True, '{m}/classes.py', '--auto-scale-lr', '--cfg-options', 'auto_scale_lr=5'),
            (True, '{m}/classes.py', '--auto-scale-lr', '--cfg-options',
             'auto_scale_lr.base_batch_size=x'),
            (True, '{m}/classes.py', '--auto-scale-lr', '--cfg-options',
             'auto_scale_lr.base_batch_size=0')):
        yield Case('train options', TRAIN, tuple(arguments), wrong)


def test_options(rng) -> Iterator[Case]:
    for wrong, *arguments in (
            (True,), (True, '{m}/small.py'), (True, *SMALL, 'x'), (True, *SMALL, '--foo'),
            (True, '', ''), (True, '{m}/small.py', ''), (True, '{m}/small.pth', '{m}/small.py'),
            (True, *SMALL, '--work-dir', '/dev/null'), (True, *SMALL, '--work-dir', '{m}/small.py'),
            (True, *SMALL, '--out', '/proc/x/y.pkl'), (True, *SMALL, '--out', ''),
            (True, *SMALL, '--out', 'x.txt'), (True, *SMALL, '--out', '{m}/hollow'),
            (True, *SMALL, '--show-dir', '{m}/small.py'), (True, *SMALL, '--show-dir', '/proc/x'),
            (None, *SMALL, '--show-dir', ''), (True, *SMALL, '--severities', '1'),
            (True, *SMALL, '--corruptions', 'fog'), (True, *SMALL, '--corrupted-root', 'x'),
            (True, *SMALL, '--benchmark-options', 'a=1'),
            (False, *SMALL, '--benchmark', 'fog', '--out', 'x.pkl'),
            (True, *PLAIN, '--tta'), (True, *SMALL, '--launcher', 'pytorch'),
            (True, *SMALL, '--launcher', 'slurm'), (True, '{m}/plain.py', '{m}/small.pth'),
            (True, '{m}/no_test.py', '{m}/small.pth', '--amp'),
            (True, '{m}/no_test.py', '{m}/small.pth', '--tta'),
            (True, '{m}/no_test.py', '{m}/small.pth', '--show-dir', 'x'),
            (True, '{m}/no_test.py', '{m}/small.pth', '--benchmark', 'fog'),
            (True, '{m}/model_number.py', '{m}/small.pth', '--tta'),
            (True, *CLASSES, '--tta', '--cfg-options', 'test_dataloader=None'),
            (True, *SMALL, '--tta', '--cfg-options', 'tta_pipeline=5'),
            (True, *SMALL, '--tta', '--cfg-options', 'tta_model=5')):
        yield Case('test options', TEST, tuple(arguments), wrong)


def benchmarks(rng) -> Iterator[Case]:
    for wrong, model, *arguments in (
            (True, SMALL, ''), (True, SMALL, 'frog'), (True, SMALL, 'fog,'), (True, SMALL, ','),
            (True, SMALL, 'clean'), (True, SMALL, 'fog,frog'), (True, SMALL, '../x'),
            (True, SMALL, 'fog', '--severities', '0'), (True, SMALL, 'fog', '--severities', '6'),
            (True, SMALL, 'fog', '--severities', '-1'), (True, SMALL, 'fog', '--severities', 'x'),
            (True, SMALL, 'fog', '--severities', '1.5'), (True, SMALL, 'fog', '--severities'),
            (None, SMALL, 'fog', '--severities', '1', '1'),
            (True, SMALL, 'fog', '--corruptions', 'snow'),
            (True, SMALL, 'fog', '--corruptions', ''), (True, SMALL, 'fog', '--corruptions'),
            (True, SMALL, 'robustness', '--corruptions', 'frog'),
            (True, SMALL, 'cityscapes-c', '--corruptions', 'gaussian_noise', '--severities', '5'),
            (True, SMALL, 'fog', '--corrupted-root', 'nowhere'),
            (True, SMALL, 'fog', '--corrupted-root', '{m}/small.py'),
            (None, SMALL, 'fog', '--corrupted-root', '', '--severities', '1'),
            (True, PLAIN, 'fog', '--corrupted-root', '{m}/hollow'),
            *((True, SMALL, 'fog', '--severities', '1', '--benchmark-options', text) for text in (
                'foo', 'foo=1', 'seed=x', 'seed=1.5', 'seed=nan', 'channel_order=xyz',
                'channel_order=5', 'family=foo', 'family=None', 'metric=foo', 'metric=5',
                'out_dir={m}/small.py', 'out_dir=5', 'show_interval=0', 'show_interval=x',
                'show_interval=-1', 'fp16=x', 'protocol=snow', 'severities=9',
                'corrupted_root=5', 'runner=5', 'dataloader=5', '=', 'name=x', 'checkpoint=x')),
            (True, SMALL, 'acdc'),
            (True, SMALL, 'acdc', '--benchmark-options', 'data_root=nowhere'),
            (True, SMALL, 'acdc', '--benchmark-options', 'data_root={m}/hollow'),
            (True, SMALL, 'acdc', '--benchmark-options', 'data_root=5'),
            (True, SMALL, 'acdc', '--benchmark-options', 'data_root='),
            (True, SMALL, 'acdc', '--benchmark-options', 'split=foo'),
            (True, SMALL, 'acdc', '--corruptions', 'storm'),
            (True, SMALL, 'dark-zurich'), (True, SMALL, 'night-driving'),
            (True, SMALL, 'imagenet-c'), (True, SMALL, 'imagenet-a'), (True, SMALL, 'imagenet-r'),
            (True, SMALL, 'imagenet-p'), (True, SMALL, 'imagenet-sketch'),
            (True, SMALL, 'cifar10-c'), (True, SMALL, 'cifar100-c'),
            (True, CLASSES, 'acdc'), (True, CLASSES, 'dark-zurich'),
            (True, CLASSES, 'imagenet-c'), (True, CLASSES, 'imagenet-a'),
            (True, CLASSES, 'cifar10-c', '--benchmark-options', 'data_root={m}/hollow'),
            (True, CLASSES, 'cifar10-c', '--benchmark-options', 'data_root={m}/small.py'),
            (True, CLASSES, 'imagenet-p', '--benchmark-options', 'data_root={m}/hollow'),
            (True, CLASSES, 'imagenet-sketch', '--benchmark-options', 'data_root={m}/classes'),
            *((True, SMALL, 'pgd', '--benchmark-options', text) for text in (
                'steps=0', 'steps=-1', 'steps=x', 'steps=1.5', 'epsilon=-1', 'epsilon=x',
                'epsilon=nan', 'eps=nan', 'step_size=nan', 'alpha=x', 'random_start=5',
                'foo=1', 'seed=x', 'norm=l7')),
            *((True, SMALL, name, '--benchmark-options', 'foo=1') for name in (
                'patch-fool', 'patch-corruption', 'cityscapes-c', 'robustness')),
            *((None, CLASSES, 'patch-fool', '--benchmark-options', text) for text in (
                'patches=0', 'patches=-1', 'patches=999', 'steps=0', 'steps=x', 'lr=nan')),
            *((True, CLASSES, 'patch-corruption', '--benchmark-options', text) for text in (
                'draws=0', 'draws=x', 'patch_size=0', 'patch_size=x', 'patch_size=999', 'foo=1')),
            (None, SMALL, 'patch-fool'), (None, SMALL, 'patch-corruption'),
            (True, SMALL, 'fog', '--cfg-options', 'test_dataloader.dataset=None'),
            (None, SMALL, 'fog', '--tta', '--severities', '1'),
            (True, SMALL, 'pgd', '--tta'),
            (True, SMALL, 'fog', '--show-dir', '{m}/small.py', '--severities', '1')):
        yield Case('benchmarks', TEST, (*model, '--work-dir', 'w', '--benchmark', *arguments),
                   wrong)
    for kind in ('empty', 'text', 'list', 'number', 'null', 'dict', 'cut', 'format',
                 'cells_number', 'cells_text', 'values_text'):
        yield Case('results', TEST, (*SMALL, '--work-dir', f'{{m}}/results/{kind}', '--benchmark',
                                     'fog', '--severities', '1'))


def checkpoints(rng) -> Iterator[Case]:
    names = ('list', 'number', 'none', 'tensor', 'empty_dict', 'empty_state', 'state_list',
             'state_none', 'state_numbers', 'state_keys', 'meta_list', 'meta_none', 'nan',
             'strings', 'part', 'cut', 'bytes', 'empty', 'text', 'code')
    fine = ('meta_none', 'meta_list')
    files = [(name, f'{{m}}/bad_{name}.pth') for name in names]
    files += [('safetensors', '{m}/bad_cut.safetensors'), ('folder', '{m}/a folder.pth'),
              ('dangling', '{m}/dangling'), ('blank', '{m}/blank'), ('hollow', '{m}/hollow'),
              ('image', '{m}/data/leftImg8bit/val/a/a_0_leftImg8bit.png'), ('null', '/dev/null'),
              ('nowhere', 'nowhere.pth'), ('url', 'http://localhost:1/x.pth'),
              ('scheme', 'foo://x.pth'), ('open-mmlab', 'open-mmlab://no_such_model'),
              ('name', '\udcff.pth')]
    for name, path in files:
        wrong = None if name in fine else True
        yield Case('checkpoint', TEST, ('{m}/small.py', path, '--work-dir', 'w'), wrong)
        yield Case('checkpoint', TRAIN, ('{m}/small.py', '--work-dir', 'w', '--resume', path),
                   None if name == 'hollow' else True)
        yield Case('checkpoint', TRAIN, ('{m}/small.py', '--work-dir', 'w', '--cfg-options',
                                         f'load_from={path}'),
                   None if name in (*fine, 'part') else True)
        yield Case('checkpoint', ANALYSIS[rng.choice(OF_MODELS)], ('{m}/small.py', path),
                   None if name in fine else True)
        yield Case('checkpoint', CONVERTERS['convert_official'], (path, 'out.pth'))
    for name in ('list', 'nan', 'text', 'cut'):
        yield Case('checkpoint', TRAIN, (
            '{m}/plain.py', '--work-dir', 'w', '--cfg-options',
            f"model.backbone.init_cfg=dict(type='Pretrained',checkpoint='{{m}}/bad_{name}.pth')"))
    for name in ('optimizer', 'meta_iter'):
        yield Case('checkpoint', TRAIN, ('{m}/small.py', '--work-dir', 'w', '--resume',
                                         f'{{m}}/bad_{name}.pth'))


def data(rng) -> Iterator[Case]:
    faults = [*(f'image_{fault}' for fault in IMAGE_FAULTS),
              *(f'label_{fault}' for fault in LABEL_FAULTS)]
    for fault in faults:
        wrong = None if fault in ('image_grey', 'image_missing', 'image_folder', 'image_dangling',
                                  'label_deep') else True
        roots = [f'{part}_dataloader.dataset.data_root={{m}}/{fault}' for part in
                 ('train', 'val', 'test')]
        config = rng.choice(('{m}/plain.py', '{m}/workers.py'))
        yield Case('data', TRAIN, (config, '--work-dir', 'w', '--cfg-options', *roots,
                                   'train_cfg.max_iters=3'), wrong)
        yield Case('data', TEST, (config, '{m}/plain.pth', '--work-dir', 'w', '--cfg-options',
                                  *roots), wrong)
        yield Case('data', TEST, (config, '{m}/plain.pth', '--work-dir', 'w', '--benchmark', 'fog',
                                  '--severities', '1', '--cfg-options', *roots), wrong)
        yield Case('data', ANALYSIS['label_prior'], (
            '{m}/plain.py', '--cfg-options', *roots),
            None if fault.startswith('image') or fault == 'label_size' or wrong is None else True)
        yield Case('data', ANALYSIS['segmentation_comparison'], (
            *PLAIN, '--cfg-options', *roots, '--indices', '1'), None)
        if fault.startswith('image'):
            yield Case('data', CONVERTERS['corrupt_dataset'], (
                f'{{m}}/{fault}/leftImg8bit', 'out', '--corruptions', 'fog', '--severities', '1',
                '--workers', rng.choice('12')), None)
    for text in ('data_root={m}/hollow', 'data_root=', 'data_root=5', 'data_prefix=5',
                 'data_prefix.img_path=nowhere', 'data_prefix.seg_map_path=gtFine/no',
                 'data_prefix.img_path=5', 'img_suffix=.tif', 'seg_map_suffix=_x.png',
                 'seg_map_suffix=5', 'ann_file=nowhere.txt', 'ann_file={m}/small.py',
                 'metainfo=5', 'metainfo.classes=[a]', 'metainfo.classes=nowhere.txt', 'indices=x',
                 'indices=[99]', 'lazy_init=True', 'max_refetch=x', 'backend_args.backend=foo',
                 'pipeline=[dict(type=None)]', "pipeline=[dict(type='PackSegInputs')]",
                 "pipeline=[dict(type='LoadImageFromFile'),dict(type='PackSegInputs')]",
                 "pipeline=[dict(type='LoadImageFromFile',imdecode_backend='foo')]",
                 "pipeline=[dict(type='LoadImageFromFile',color_type='foo'),"
                 "dict(type='PackSegInputs')]",
                 "pipeline=[dict(type='LoadImageFromFile'),dict(type='Resize',scale=(0,0)),"
                 "dict(type='LoadAnnotations'),dict(type='PackSegInputs')]",
                 "pipeline=[dict(type='LoadImageFromFile'),dict(type='Resize',scale='x'),"
                 "dict(type='LoadAnnotations'),dict(type='PackSegInputs')]",
                 "pipeline=[dict(type='LoadImageFromFile'),dict(type='LoadAnnotations'),"
                 "dict(type='RandomCrop',crop_size=(999,-1)),dict(type='PackSegInputs')]",
                 "pipeline=[dict(type='LoadImageFromFile'),dict(type='LoadAnnotations'),"
                 "dict(type='PackSegInputs',meta_keys=('foo',))]",
                 "pipeline=[dict(type='LoadImageFromFile'),dict(type='LoadAnnotations')]"):
        wrong = None if text in ('max_refetch=x', 'lazy_init=True', 'metainfo.classes=[a]',
                                 'indices=[99]', 'ann_file={m}/small.py') or \
            'crop_size' in text or 'foo' in text else True
        yield Case('data config', TEST, (
            *PLAIN, '--work-dir', 'w', '--cfg-options', f'test_dataloader.dataset.{text}'), wrong)
        yield Case('data config', TEST, (
            *PLAIN, '--work-dir', 'w', '--benchmark', 'fog', '--severities', '1', '--cfg-options',
            f'test_dataloader.dataset.{text}'), wrong)
        yield Case('data config', TRAIN, (
            rng.choice(('{m}/plain.py', '{m}/workers.py')), '--work-dir', 'w', '--cfg-options',
            f'train_dataloader.dataset.{text}'), None)
    for text in ('data_root={m}/hollow', 'data_root={m}/small.py', 'ann_file=nowhere.txt',
                 'ann_file={m}/notes.txt', 'classes=[a]', 'classes=nowhere.txt', 'data_prefix=5',
                 'extensions=[]', 'with_label=False', 'type=ImageNet', 'type=CIFAR10'):
        yield Case('data config', TEST, (
            *CLASSES, '--work-dir', 'w', '--cfg-options', f'test_dataloader.dataset.{text}'))
    for text in ('model.head.num_classes=3', 'model.head.in_channels=5', 'model.head.topk=x',
                 'model.head.loss.type=Foo', 'model.neck.type=Foo', 'model.neck=5',
                 'model.backbone.depth=7', 'model.data_preprocessor.mean=[1,2,3,4,5]',
                 'model.train_cfg.augments=x', "model.train_cfg.augments=[dict(type='Mixp')]"):
        yield Case('classifier', TRAIN, ('{m}/classes.py', '--cfg-options', text),
                   None if 'topk' in text else True)


def print_options(rng) -> Iterator[Case]:
    for wrong, *arguments in (
            (True,), (True, '{m}/small.py', '--save-path', 'x.foo'),
            (True, '{m}/small.py', '--save-path', ''), (True, '{m}/small.py', '--save-path', 'x'),
            (True, '{m}/small.py', '--save-path', '/proc/x.py'),
            (True, '{m}/small.py', '--save-path', 'no/such/x.py'),
            (True, '{m}/small.py', '--save-path', '{m}/a folder.py'),
            (True, '{m}/small.py', '--save-path', '/dev/full'),
            (True, '{m}/small.py', '--save-path'), (True, '{m}/small.py', '--foo'),
            (False, '{m}/small.py', '--save-path', 'x.json'),
            (False, '{m}/small.py', '--save-path', 'x.yml'),
            (None, '{m}/holds_object.py', '--save-path', 'x.json'),
            (None, '{m}/holds_tensor.py', '--save-path', 'x.py'),
            (False, '{m}/small.py', '--cfg-options', "custom_hooks=[dict(type='X')]")):
        yield Case('print options', PRINT, tuple(arguments), wrong)


def _unwritable(folder: Path) -> None:
    """A working directory that is gone: nothing can be written there, whoever runs."""
    import os

    inner = folder / 'gone'
    inner.mkdir()
    os.chdir(inner)
    inner.rmdir()


def _without_output(folder: Path) -> None:
    import os
    import sys

    os.close(1)
    sys.stdout = None


def environments(rng) -> Iterator[Case]:
    calls = ((TRAIN, ('{m}/small.py', '--work-dir', 'w')),
             (TEST, (*SMALL, '--work-dir', 'w')), (PRINT, ('{m}/small.py',)))
    for settings in (dict(OMP_NUM_THREADS='abc'), dict(OMP_NUM_THREADS='-1'),
                     dict(CUDA_VISIBLE_DEVICES='foo'), dict(CUDA_VISIBLE_DEVICES='-5'),
                     dict(RANK='0'), dict(RANK='x'), dict(WORLD_SIZE='2'), dict(LOCAL_RANK='x'),
                     dict(RANK='1', WORLD_SIZE='x'), dict(MASTER_PORT='x'),
                     dict(LANG='C', LC_ALL='C'), dict(PYTHONIOENCODING='ascii'),
                     dict(TMPDIR='/nowhere'), dict(HOME='/nowhere'), dict(MPLBACKEND='foo'),
                     dict(COLUMNS='x'), dict(PYTHONHASHSEED='0'), dict(MMROBUST_TRACEBACK='')):
        for tool, arguments in calls:
            yield Case('environment', tool, arguments, None, settings)
        yield Case('environment', TEST, ('{m}/name_error.py', 'x.pth'), True, settings)
    for tool, arguments in calls:
        yield Case('working directory', tool, arguments, None, before=_unwritable)
        yield Case('standard output', tool, arguments, None, before=_without_output)
    yield Case('launcher', TRAIN, ('{m}/small.py', '--launcher', 'pytorch'), True,
               dict(RANK='0'))
    yield Case('launcher', TRAIN, ('{m}/small.py', '--launcher', 'pytorch'), True,
               dict(RANK='0', WORLD_SIZE='1'))
    yield Case('launcher', TRAIN, ('{m}/small.py', '--launcher', 'pytorch'), True,
               dict(RANK='x', WORLD_SIZE='1', MASTER_ADDR='localhost', MASTER_PORT='29511'))
    yield Case('launcher', TRAIN, ('{m}/small.py', '--launcher', 'pytorch'), True,
               dict(RANK='0', WORLD_SIZE='1', MASTER_ADDR='localhost', MASTER_PORT='x'))
    yield Case('launcher', TEST, (*SMALL, '--launcher', 'slurm'), True, dict(SLURM_PROCID='x'))


def odd_but_right(rng) -> Iterator[Case]:
    for config in ('{m}/name with blanks.py', '{m}/stra\u00dfe.py', '{m}/two\nlines.py'):
        yield Case('odd', PRINT, (config,), False)
        yield Case('odd', TEST, (config, '{m}/small.pth', '--work-dir', 'a b/\u00e4\n'), False)
        yield Case('odd', TRAIN, (config, '--work-dir', 'a b/\u00e4\n'), False)
    roots = [f'{part}_dataloader.dataset.data_root={{m}}/odd names' for part in
             ('train', 'val', 'test')]
    yield Case('odd', TEST, (*PLAIN, '--work-dir', 'w', '--cfg-options', *roots), False)
    yield Case('odd', TEST, (*PLAIN, '--work-dir', 'w', '--benchmark', 'fog', '--severities', '1',
                             '--cfg-options', *roots), False)
    yield Case('odd', TRAIN, ('{m}/plain.py', '--work-dir', 'v', '--work-dir', 'w'), False)
    yield Case('odd', TRAIN, ('{m}/classes.py', '--debug'), False)
    yield Case('odd', TEST, (*CLASSES, '--tta'), False)
    yield Case('odd', TEST, (*CLASSES, '--benchmark', 'fog', '--severities', '1', '--cfg-options',
                             'test_dataloader.num_workers=2'), False)
    yield Case('odd', TEST, (*SMALL, '--benchmark', ' fog', '--severities', '1'), None)
    yield Case('odd', TEST, (*SMALL, '--cfg-options', 'test_dataloader.batch_size=2',
                             '--cfg-options', 'test_dataloader.batch_size=1'), False)
    yield Case('odd', ANALYSIS['tap_weights'], (*SMALL, '--images', '1'), False)
    yield Case('odd', ANALYSIS['attention_maps'], SMALL, False)
    yield Case('odd', ANALYSIS['attention_stability'], (*SMALL, '--images', '1'), False)
    yield Case('odd', ANALYSIS['head_diversity'], (*SMALL, '--images', '1'), False)
    yield Case('odd', ANALYSIS['segmentation_comparison'], (*SMALL, '--images', '1'), False)
    yield Case('odd', ANALYSIS['label_prior'], ('{m}/plain.py',), False)


def command(rng) -> Iterator[Case]:
    for wrong, *arguments in (
            (True,), (True, 'foo'), (True, '--foo'), (True, ''), (True, 'list', '--foo'),
            (True, 'list', 'x', 'y', 'z'), (None, 'doctor'), (True, 'doctor', '--foo'),
            (True, 'completion', 'foo'), (True, 'completion'), (True, 'train'),
            (True, 'train', 'no_such_config'), (True, 'train', 'fan_demo_streetz'),
            (True, 'test', 'fan_demo_streets'), (True, 'benchmark'),
            (True, 'benchmark', 'frog', *SMALL), (True, 'benchmark', *SMALL, 'frog'),
            (True, 'compare', 'nowhere.json'), (True, 'compare'), (True, 'masks', *PLAIN),
            (True, 'config', 'mmrobust::no_such'), (True, 'config', '::'), (True, 'config', '../x'),
            (False, 'config', 'fan_demo_streets'), (True, 'corrupt', 'nowhere', 'out'),
            (True, 'convert', 'nowhere.pth', 'x.pth'), (True, 'camvid', 'nowhere')):
        yield Case('command', '../mmrobust/__main__.py', tuple(arguments), wrong)
