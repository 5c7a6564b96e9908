"""What other habits, tools and libraries bring along: odd settings that look right at a glance.

Options of benchmarks and attacks, pipelines, loaders and heads of the host libraries, and kinds of
image files that decoders disagree about.
"""
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from case import ANALYSIS, CLASSES, CONVERTERS, PLAIN, SMALL, TEST, TRAIN, Case
from PIL import Image

FOG = ('--benchmark', 'fog', '--severities', '1')
LOAD, LABELS, PACK = ("dict(type='LoadImageFromFile')", "dict(type='LoadAnnotations')",
                      "dict(type='PackSegInputs')")

OPTIONS = {  # benchmark -> options of which each is wrong
    'fog': ('seed=1.5', 'seed=None', 'seed=x', 'channel_order=RGB', 'channel_order=5', 'family=5',
            'family=cifar', 'jpeg_quality=0', 'jpeg_quality=101', 'jpeg_quality=x', 'metric=5',
            'metric=miou', 'data_root=5', 'data_root=nowhere', 'corrupted_root=5', 'protocol=x',
            'corruptions=snow', 'severities=9', 'severities=x', 'out_dir=/proc/x', 'seeds=1',
            'runner=x', 'dataloader=x', 'show_interval=x'),
    'pgd': ('radius=0', 'radius=nan', 'radius=inf', 'radius=8', 'radius=x', 'steps=0', 'steps=1.5',
            'steps=x', 'steps=-1', 'step_size=-1', 'step_size=None', 'seed=x', 'eps=1'),
    'patch-fool': ('patch_size=0', 'patch_size=7', 'patch_size=x', 'num_patches=-1',
                   'num_patches=100000', 'attention_weight=nan', 'lr=x', 'choice=foo'),
    'patch-corruption': ('ratio=2', 'ratio=x', 'masks=0', 'masks=1.5', 'patch_size=0',
                         'patch_size=x', 'severity=9'),
}
BENCHMARKS = ('fog,', ',', 'fog,fog', 'FOG', 'pgd,fog', 'cityscapes_c', 'imagenet-c,fog', 'x' * 500,
              'acdc', 'imagenet-a', 'imagenet-p', 'dark-zurich', '../fog', 'fog\n', '*')
PIPELINES = {  # name -> steps, and whether they are wrong
    'labels first': ((LABELS, LOAD, PACK), None), 'nothing loads': ((PACK,), True),
    'twice': ((LOAD, LOAD, LABELS, PACK), None), 'grey': (
        ("dict(type='LoadImageFromFile', color_type='grayscale')", LABELS, PACK), None),
    'float': (("dict(type='LoadImageFromFile', to_float32=True)", LABELS, PACK), None),
    'backend': (("dict(type='LoadImageFromFile', imdecode_backend='foo')", LABELS, PACK), True),
    'turbojpeg': (("dict(type='LoadImageFromFile', imdecode_backend='turbojpeg')", LABELS, PACK),
                  None),
    'tifffile': (("dict(type='LoadImageFromFile', imdecode_backend='tifffile')", LABELS, PACK),
                 True),
    'ignoring': (("dict(type='LoadImageFromFile', ignore_empty=True)", LABELS, PACK), None),
    'storage': (("dict(type='LoadImageFromFile', backend_args=dict(backend='petrel'))", LABELS,
                 PACK), True),
    'no size': ((LOAD, "dict(type='Resize', scale=(0, 0))", LABELS, PACK), True),
    'negative size': ((LOAD, "dict(type='Resize', scale=(-4, 4))", LABELS, PACK), True),
    'text size': ((LOAD, "dict(type='Resize', scale='big')", LABELS, PACK), True),
    'no scale': ((LOAD, "dict(type='Resize')", LABELS, PACK), True),
    'crop': ((LOAD, LABELS, "dict(type='RandomCrop', crop_size=(0, 0))", PACK), True),
    'meta keys': ((LOAD, LABELS, "dict(type='PackSegInputs', meta_keys=('foo',))"), None),
    'tensor': ((LOAD, LABELS, "dict(type='ToTensor', keys=['img'])", PACK), None),
    'of classifiers': ((LOAD, "dict(type='PackInputs')"), True),
    'normalised': ((LOAD, "dict(type='Normalize', mean=[0, 0, 0], std=[0, 0, 0])", LABELS, PACK),
                   None),
    'text': ((LOAD, "'Resize'", PACK), True), 'number': ((LOAD, '5', PACK), True),
    'none': ((LOAD, 'None', PACK), True),
}
SETTINGS = {  # of a segmenter's test; True where wrong
    'test_dataloader.batch_size=1000': None, 'test_dataloader.timeout=-1': True,
    'test_dataloader.prefetch_factor=0': True, 'test_dataloader.pin_memory=x': None,
    'test_dataloader.worker_init_fn=5': True, 'test_dataloader.collate_fn.type=nowhere': True,
    'test_dataloader.drop_last=True': None, 'test_dataloader.sampler.shuffle=True': None,
    'test_dataloader.sampler.type=InfiniteSampler': None,
    'test_dataloader.dataset.indices=0': True, 'test_dataloader.dataset.indices=[99]': None,
    'test_dataloader.dataset.serialize_data=False': None,
    'test_dataloader.dataset.test_mode=True': None,
    'test_dataloader.dataset.img_suffix=.JPG': True, 'test_dataloader.dataset.img_suffix=5': True,
    'test_dataloader.dataset.seg_map_suffix=.foo': True,
    'test_dataloader.dataset.reduce_zero_label=True': None,
    'test_dataloader.dataset.ignore_index=0': None,
    'test_dataloader.dataset.ann_file=nowhere.txt': True,
    "test_dataloader.dataset.metainfo.classes=('a',)": True,
    'test_dataloader.dataset.data_prefix.img_path=nowhere': True,
    'test_dataloader.dataset.data_prefix=5': True, 'test_dataloader.dataset.type=BaseSegDataset':
        None, 'test_dataloader.dataset.type=ADE20KDataset': True,
    'test_dataloader.dataset.type=mmpretrain.CIFAR10': True,
    'model.test_cfg.mode=slide': True, 'model.data_preprocessor.test_cfg.size=5': True,
    'model.data_preprocessor.std=[0,0,0]': None, 'model.data_preprocessor.mean=None': None,
    'model.data_preprocessor.bgr_to_rgb=x': None, 'model.decode_head.num_classes=1': True,
    'model.decode_head.num_classes=150': True, 'model.decode_head.ignore_index=3': None,
    'model.decode_head.type=OCRHead': True, 'model.decode_head.in_index=[0,1]': True,
    'model.decode_head.align_corners=x': None, 'model.decode_head.threshold=9': None,
    'model.type=CascadeEncoderDecoder': True, 'model.type=mmpretrain.ImageClassifier': True,
    'test_evaluator.ignore_index=x': None, 'test_evaluator.nan_to_num=x': None,
    'test_evaluator.output_dir=/proc/x': True, 'test_evaluator.format_only=True': True,
    'test_evaluator.iou_metrics=mIoU': None, 'test_evaluator.iou_metrics=[]': None,
    'test_evaluator.prefix=5': None, 'test_evaluator.type=mmpretrain.Accuracy': True,
    'test_evaluator.type=mmdet.CocoMetric': True, 'test_evaluator.type=CityscapesMetric': True,
}
OF_CLASSES = {
    'model.head.num_classes=9': True, 'model.head.topk=(5,)': None, 'model.head.in_channels=9':
        True, 'model.head.type=MultiLabelLinearClsHead': None, 'model.neck=None': True,
    'model.data_preprocessor.num_classes=3': None, 'model.data_preprocessor.mean=[1,2]': None,
    'model.train_cfg.augments.type=Mixup': None, 'test_evaluator.topk=(50,)': True,
    'test_evaluator.topk=0': True, 'test_evaluator.topk=x': True, 'test_evaluator.thrs=x': True,
    'test_evaluator.type=IoUMetric': True, 'test_evaluator.type=VOCMultiLabelMetric': None,
    'test_dataloader.dataset.with_label=False': True,
    'test_dataloader.dataset.extensions=(".foo",)': True,
    'test_dataloader.dataset.ann_file=nowhere.txt': True,
    "test_dataloader.dataset.classes=('a','b')": True,
    'test_dataloader.dataset.data_prefix=nowhere': True,
}
FILES = ('cmyk', 'palette', 'bits', 'alpha', 'gif', 'webp', 'bomb', 'floats', 'svg', 'heic', 'mat')


def make_strangers(folder: Path) -> None:
    """Write the image files, each in a folder of its own, and results of other programs."""
    pixels = np.random.RandomState(0).randint(0, 255, (48, 64, 3)).astype(np.uint8)
    picture = Image.fromarray(pixels)
    for name in FILES:
        (folder / 'files' / name).mkdir(parents=True)
    place = folder / 'files'
    picture.convert('CMYK').save(place / 'cmyk/a.jpg')
    picture.convert('P').save(place / 'palette/a.png')
    picture.convert('1').save(place / 'bits/a.png')
    picture.convert('RGBA').save(place / 'alpha/a.png')
    picture.save(place / 'gif/a.png', 'GIF')
    picture.save(place / 'webp/a.jpg', 'WEBP')
    whole = cv2.imencode('.png', pixels)[1].tobytes()
    (place / 'bomb/a.png').write_bytes(whole[:16] + (1 << 24).to_bytes(4, 'big') * 2 + whole[24:])
    cv2.imwrite(str(place / 'floats/a.tif'), pixels.astype(np.float32) * np.nan)
    (place / 'svg/a.png').write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    (place / 'heic/a.jpg').write_bytes(b'\0\0\0\x18ftypheic' + bytes(99))
    (place / 'mat/a.png').write_bytes(b'MATLAB 5.0 MAT-file' + bytes(200))
    for name, content in dict(
            mark=b'\xef\xbb\xbf{}', wide='{}'.encode('utf-16'), deep=b'[' * 100000,
            large=b'{"format": 1e999}', lines=b'{"a": 1}\n{"a": 2}\n', key=b'{"format": 2, "',
            coco=json.dumps(dict(images=[], annotations=[])).encode(), name=b'"results"').items():
        path = folder / 'foreign' / name / 'results.json'
        path.parent.mkdir(parents=True)
        path.write_bytes(content)


def stranger_cases(rng) -> Iterator[Case]:
    """Cases of everything above."""
    for benchmark, options in OPTIONS.items():
        model = SMALL if benchmark.startswith('patch') else CLASSES if benchmark == 'pgd' else PLAIN
        for option in options:
            some = ('--severities', '1') if benchmark == 'fog' else ()
            yield Case('benchmark option', TEST, (*model, '--work-dir', 'w', '--benchmark',
                                                  benchmark, *some, '--benchmark-options', option),
                       None if option in ('seed=None', 'radius=8', 'choice=foo', 'family=cifar',
                                          'data_root=5', 'step_size=None') else True)
    for name in BENCHMARKS:
        yield Case('benchmark name', TEST, (*PLAIN, '--work-dir', 'w', '--benchmark', name),
                   None if name in ('fog,fog', 'fog\n', 'fog,') else True)
    for steps, wrong in PIPELINES.values():
        for extra in ((), FOG):
            yield Case('pipeline', TEST, (
                *PLAIN, '--work-dir', 'w', *extra, '--cfg-options',
                f'test_dataloader.dataset.pipeline=[{", ".join(steps)}]'), wrong)
    for model, settings in ((PLAIN, SETTINGS), (CLASSES, OF_CLASSES)):
        for text, wrong in settings.items():
            for extra in ((), FOG):
                yield Case('setting', TEST, (*model, '--work-dir', 'w', *extra, '--cfg-options',
                                             text), wrong)
    for name in FILES:
        yield Case('file', CONVERTERS['corrupt_dataset'], (
            f'{{m}}/files/{name}', 'out', '--corruptions', 'fog', '--severities', '1',
            '--workers', '1'), True if name in ('bomb', 'floats', 'svg', 'heic', 'mat') else None)
        yield Case('file', ANALYSIS['attention_maps'], (
            *SMALL, '--image', f'{{m}}/files/{name}/a.png'), None)
    for name in ('mark', 'wide', 'deep', 'large', 'lines', 'key', 'coco', 'name'):
        path = f'{{m}}/foreign/{name}'
        yield Case('foreign results', ANALYSIS['compare_robustness'], (f'{path}/results.json',))
        yield Case('foreign results', ANALYSIS['report'], (path,))
    for tool in ('confidence', 'mask_stability', 'attention_stability'):
        for options in (('--images', '0'), ('--images', 'x'), ('--names', 'a', 'b'), ('--out', ''),
                        ('--device', 'foo'), ('--corruption', 'frog'), ('--severity', '9'),
                        ('--out', '/proc/x')):
            yield Case('analysis', f'analysis/{tool}.py', (*SMALL, *options))
    for text in ('train_dataloader.dataset.pipeline=[' + PACK + ']',
                 'train_dataloader.sampler.type=DefaultSampler',
                 'train_dataloader.dataset.type=ConcatDataset', 'optim_wrapper.optimizer.lr=1e30',
                 'train_dataloader.batch_size=50', 'model.decode_head.loss_decode.class_weight=[1]',
                 'model.decode_head.dropout_ratio=5', 'model.backbone.depth=19',
                 'model.backbone.norm_cfg.type=Foo', 'model.pretrained=nowhere.pth',
                 'model.backbone.init_cfg.checkpoint=nowhere.pth', 'model.auxiliary_head=5',
                 'model.train_cfg=5', 'model.backbone.out_indices=(0,9)',
                 'model.backbone.strides=(1,)', 'model.backbone.frozen_stages=99'):
        yield Case('training', TRAIN, ('{m}/plain.py', '--work-dir', 'w', '--cfg-options', text),
                   None)
