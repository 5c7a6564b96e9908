"""The mIoU that needs no look at the image: the most frequent class of each pixel."""
import argparse

from .arguments import add_overrides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('config', help='config of a segmenter, or the name of one of ours')
    add_overrides(parser)


def run(args: argparse.Namespace) -> None:
    from mmengine.registry import DATASETS

    from mmrobust.apis import load_config
    from mmrobust.apis.checks import require_parts
    from mmrobust.evaluation.label_prior import label_prior_miou
    from mmrobust.utils.mistakes import reading

    cfg = load_config(args.config, args.cfg_options)
    require_parts(cfg, 'train_dataloader', 'val_dataloader')
    pipeline = [dict(type='LoadAnnotations'), dict(type='PackSegInputs', meta_keys=())]
    with reading(f"the data of the config '{args.config}'"):
        train, val = (DATASETS.build({**cfg[part].dataset, 'pipeline': pipeline})
                      for part in ('train_dataloader', 'val_dataloader'))
        classes = val.metainfo['classes']
    mean, iou = label_prior_miou(train, val, len(classes))
    for name, value in zip(classes, iou, strict=True):
        print(f'{name:>16} {value:6.2f}')
    print(f'{"mIoU":>16} {mean:6.2f}')
