"""A robustness benchmark of any model in one call."""
import copy
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from mmrobust.checkpoints import find_checkpoint, guard_loading
from mmrobust.datasets.plain import NEEDED, PlainDataset
from mmrobust.evaluation import apply_benchmark, get_protocol
from mmrobust.evaluation.benchmark import LOOP_OPTIONS
from mmrobust.models.network import ExportedNetwork, Network, is_exported
from mmrobust.utils.hosts import require
from mmrobust.utils.mistakes import reading

from .checks import require_parts
from .config import load_config
from .launch import AT_WORK, test
from .outcome import BenchmarkResults

CLASSIFIER_HEAD = dict(type='mmpretrain.ClsHead', loss=dict(type='mmpretrain.CrossEntropyLoss'))
HOSTS = dict(classification='mmpretrain', segmentation='mmseg')


def benchmark(model: Any, checkpoint: str | None = None, protocol: str = 'cityscapes-c', *,
              data: Any = None, transform: Callable | None = None,
              mean: Sequence[float] | None = None, std: Sequence[float] | None = None,
              output: str | int | Callable | None = None, classes: Sequence[str] | None = None,
              ignore_index: int = 255, batch_size: int | None = None,
              num_workers: int | None = None, name: str | None = None,
              work_dir: str | None = None, corruptions: str | Iterable[str] | None = None,
              severities: int | Sequence[int] | None = None, cfg_options: dict | None = None,
              trust: bool = False, **options: Any) -> BenchmarkResults:
    """Measure how a model does under corruption. Called again, it goes on where it was.

    ``model`` is one of two things. A config of any OpenMMLab model (file, name or
    :class:`~mmengine.config.Config`), with its ``checkpoint``: data, pipeline and metric are the
    config's. Or a plain ``torch.nn.Module`` that makes logits of an image batch, or the path of an
    exported network, with ``data``.

    Args:
        model (str | Config | nn.Module): The model.
        checkpoint (str, optional): Weights of a config's model, or an exported network
            (``.onnx``, ``.torchscript``, ``.pt2``) that takes its place.
        protocol (str): Name of a benchmark, or corruptions and groups separated by commas.
        data: Of a plain model: pairs of an image (PIL, or uint8, RGB) and its label (a number, or
            a label map of the image's size), as a data set or as the data loader around one.
        transform (Callable, optional): PIL image to the normalised tensor (C, H, W), applied
            after the corruption. It may resize; of a segmenter's images it must not crop.
        mean, std (Sequence[float], optional): Instead of ``transform``: normalisation in grey
            levels of 0 to 255. Without either, images are divided by 255.
        output (str | int | Callable, optional): Where the logits are in what the model returns,
            see :func:`mmrobust.models.network.logits_of`.
        classes (Sequence[str], optional): Their names. Defaults to those of the data set.
        ignore_index (int): Label of pixels that do not count. Defaults to 255.
        batch_size, num_workers (int, optional): Defaults to the data loader's, else 1 and 0.
        name (str, optional): What tables call the model.
        work_dir (str, optional): Defaults to ``work_dirs/NAME``.
        corruptions, severities: Run only these.
        cfg_options (dict, optional): Overrides of a config.
        trust (bool): Whether the checkpoint may run code of its own when loaded.
        **options: Of the protocol and of ``CorruptionTestLoop``, such as ``seed`` and ``metric``.

    Returns:
        BenchmarkResults: The results.

    Raises:
        ValueError: If something does not fit, before the first cell is computed.
    """
    selection = dict(corruptions=corruptions, severities=severities)
    if not isinstance(model, nn.Module) and not is_exported(model):
        cfg = model if isinstance(model, Config) else load_config(str(model), cfg_options)
        if given := [key for key, value in dict(data=data, transform=transform, mean=mean, std=std,
                                                output=output, classes=classes).items()
                     if value is not None]:
            raise ValueError(f'{", ".join(given)}: these are of plain models, a config brings its '
                             'own: change it with cfg_options')
        cfg = _prepared(copy.deepcopy(cfg), cfg_options if isinstance(model, Config) else None,
                        checkpoint, batch_size, num_workers)
        cfg.work_dir = work_dir or cfg.get('work_dir') or str(
            Path('work_dirs', Path(cfg.filename or 'model').stem))
        apply_benchmark(cfg, protocol, **selection, **options, **(
            dict(model_name=name) if name else {}))
        test(cfg, trust=trust)
        return _outcome(cfg.work_dir, protocol, options)
    if checkpoint is not None:
        raise ValueError(f'checkpoint={checkpoint!r}: a plain model holds its weights; load them '
                         'into it')
    if data is None:
        raise ValueError(f'data= is missing: {NEEDED}')
    network = ExportedNetwork(str(model)) if is_exported(model) else Network(model, output)
    name = name or (Path(model).stem if is_exported(model) else type(model).__name__)
    work_dir = work_dir or str(Path('work_dirs', name))
    _check_protocol(protocol, selection, options)
    loader = _loader(data, transform, classes, batch_size, num_workers)
    was_training = network.training if is_exported(model) else model.training
    try:
        task, outputs = _ask(network.eval(), loader, transform, mean, std)
        host = _host_model(network, task, outputs, loader.dataset, transform, mean, std,
                           ignore_index)
        with reading(f'the benchmark {protocol} of {name}', AT_WORK, running=True), \
                guard_loading(trust):
            runner = Runner(
                host, work_dir, test_dataloader=loader, test_evaluator=_metric(
                    task, outputs, ignore_index),
                test_cfg=dict(type='CorruptionTestLoop', protocol=protocol, model_name=name,
                              **{key: value for key, value in selection.items()
                                 if value is not None}, **options),
                default_scope=HOSTS[task], experiment_name=f'{name}-{uuid4().hex[:8]}',
                cfg=Config(dict()))
            runner.test()
    finally:
        network.train(was_training)
    return _outcome(work_dir, protocol, options)


def use_exported(cfg: Config, file: str) -> None:
    """Let an exported network take the place of a config's model; changes the config in place.

    Data preprocessor, way of testing (whole images or windows), data and metric stay.

    Raises:
        ValueError: If the config's model is neither a segmenter nor a classifier.
    """
    require_parts(cfg, 'model')
    model = cfg.model
    preprocessor = model.get('data_preprocessor') or cfg.get('data_preprocessor')
    own = dict(backbone=dict(type='ExportedNetwork', file=file), data_preprocessor=preprocessor)
    head = model.get('decode_head') or model.get('head')
    if not isinstance(head, dict) or 'num_classes' not in head:
        raise ValueError(f"'{file}' can take the place of a segmenter with one decode_head, or of "
                         "a classifier with a head: the config's model is none")
    if 'decode_head' in model:
        own |= dict(type='mmseg.EncoderDecoder', test_cfg=model.get('test_cfg', dict(mode='whole')),
                    decode_head=dict(type='LogitsHead', num_classes=head['num_classes'],
                                     ignore_index=head.get('ignore_index', 255)))
    else:
        if 'MultiLabel' in str(head.get('type')) or 'CSRA' in str(head.get('type')):
            raise ValueError(f"'{file}' can take the place of a classifier that tells one class "
                             f"per image: {head['type']} finds several")
        own |= dict(type='mmpretrain.ImageClassifier', head=CLASSIFIER_HEAD)
    cfg.model = ConfigDict(own)
    cfg.load_from = None


def _prepared(cfg: Config, overrides: dict | None, checkpoint: str | None, batch_size: int | None,
              num_workers: int | None) -> Config:
    if overrides:
        with reading('cfg_options'):
            cfg.merge_from_dict(overrides)
    if isinstance(cfg.get('default_scope'), str):
        init_default_scope(cfg.default_scope)
    if is_exported(checkpoint):
        use_exported(cfg, checkpoint)
    elif checkpoint is not None:
        cfg.load_from = find_checkpoint(checkpoint)
    elif not cfg.get('load_from'):
        raise ValueError('checkpoint= is missing: name the weights of the model, a .pth file or a '
                         'work dir')
    for loader in (cfg.get('test_dataloader'), cfg.get('val_dataloader')):
        if loader and batch_size is not None:
            loader.batch_size = batch_size
        if loader and num_workers is not None:
            loader.num_workers = num_workers
            loader.persistent_workers = False
    return cfg


def _check_protocol(name: str, selection: dict, options: dict) -> None:
    made = get_protocol(name, **selection, **{key: value for key, value in options.items()
                                              if key not in LOOP_OPTIONS})
    for cell in made.selected:
        what = ('a data set of its own' if cell.dataset is not None else
                'an attack' if cell.attack is not None else
                'image files' if cell.corrupted_root is not None else None)
        if what:
            raise ValueError(f'{name} needs {what}, for which a plain model is not enough: choose '
                             'one that corrupts your data, such as imagenet-c, cifar10-c, '
                             'cityscapes-c or all, or give an OpenMMLab config')


def _loader(data: Any, transform: Callable | None, classes: Sequence[str] | None,
            batch_size: int | None, num_workers: int | None) -> DataLoader:
    """A loader of data samples around the user's data set."""
    source = data
    if isinstance(data, DataLoader):
        source = data.dataset
        batch_size = batch_size or data.batch_size
        num_workers = data.num_workers if num_workers is None else num_workers
    if not hasattr(source, '__getitem__') or not hasattr(source, '__len__'):
        raise ValueError(f'data= is a {type(data).__name__}: {NEEDED}, as a data set with a length '
                         'and an index, or as the data loader around one')
    if not len(source):
        raise ValueError(f'data= is empty: {NEEDED}')
    if isinstance(source, PlainDataset):
        dataset = source
    else:
        names = classes if classes is not None else getattr(source, 'classes', None)
        dataset = PlainDataset(source, transform, names)
    return DataLoader(dataset, batch_size or 1, num_workers=num_workers or 0,
                      collate_fn=pseudo_collate)


def _preprocessor(dataset: PlainDataset, transform: Callable | None, mean: Sequence[float] | None,
                  std: Sequence[float] | None) -> dict:
    """Settings of a data preprocessor: what ``transform`` gives stays as it is."""
    if transform is not None:
        if mean is not None or std is not None:
            raise ValueError('mean, std and transform: give one or the other, images are '
                             'normalised once')
        return {}
    channels = 1 if dataset.get_data_info(0)['img'].ndim == 2 else 3
    mean = [0.] * channels if mean is None else list(mean)
    std = [255.] * channels if std is None else list(std)
    if max(std) < 2:
        raise ValueError(f'std={std}: it is in grey levels of 0 to 255, so multiply mean and std '
                         'of values from 0 to 1 by 255')
    return dict(mean=mean, std=std)


@torch.no_grad()
def _ask(network: nn.Module, loader: DataLoader, transform: Callable | None,
         mean: Sequence[float] | None, std: Sequence[float] | None) -> tuple[str, int]:
    """What a network is for, and how many classes it tells apart, by its answer to one image."""
    settings = _preprocessor(loader.dataset, transform, mean, std)
    item = loader.dataset[0]
    inputs = item['inputs'][None].float()
    if settings:
        inputs = (inputs - torch.tensor(settings['mean']).view(1, -1, 1, 1)
                  ) / torch.tensor(settings['std']).view(1, -1, 1, 1)
    weight = next(network.parameters(), None)
    if weight is not None:
        inputs = inputs.to(weight.device)
    with reading(f'the network on an image of the shape {tuple(inputs.shape)}',
                 'give a transform= that makes what the network takes', running=True):
        logits, = network(inputs)
    task = 'classification' if logits.ndim == 2 else 'segmentation'
    labelled = 'classification' if 'gt_label' in item['data_samples'] else 'segmentation'
    if task != labelled:
        raise ValueError(
            f'the network returns logits of the shape {tuple(logits.shape)} for one image, so it '
            f'is for {task}, and the labels of the data are for {labelled}: '
            + ('give label maps (H, W)' if task == 'segmentation' else 'give one number per image'))
    return task, logits.shape[1]


def _host_model(network: nn.Module, task: str, outputs: int, dataset: PlainDataset,
                transform: Callable | None, mean: Sequence[float] | None,
                std: Sequence[float] | None, ignore_index: int) -> nn.Module:
    """The host library's model with the network as its backbone."""
    require(HOSTS[task])
    settings = _preprocessor(dataset, transform, mean, std)
    placeholder = dict(type=nn.Identity)
    if task == 'classification':
        model = MODELS.build(dict(
            type='mmpretrain.ImageClassifier', backbone=placeholder, head=CLASSIFIER_HEAD,
            data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', **settings)))
        model.head.num_classes = outputs
    else:
        if not dataset.metainfo:
            dataset.metainfo = dict(classes=tuple(map(str, range(outputs))))
        model = MODELS.build(dict(
            type='mmseg.EncoderDecoder', backbone=placeholder, test_cfg=ConfigDict(mode='whole'),
            decode_head=dict(type='LogitsHead', num_classes=outputs, ignore_index=ignore_index),
            data_preprocessor=dict(type='mmseg.SegDataPreProcessor', **settings)))
    model.backbone = network
    return model


def _metric(task: str, outputs: int, ignore_index: int) -> dict:
    if task == 'segmentation':
        return dict(type='mmseg.IoUMetric', iou_metrics=['mIoU'], ignore_index=ignore_index)
    return dict(type='mmpretrain.Accuracy', topk=(1, 5) if outputs > 5 else (1,))


def _outcome(work_dir: str, protocol: str, options: dict) -> BenchmarkResults:
    folder = options.get('out_dir') or os.path.join(
        work_dir, protocol.replace(',', '+').replace(' ', ''))
    return BenchmarkResults(os.path.join(folder, 'results.json'))
