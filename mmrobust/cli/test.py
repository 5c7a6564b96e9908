"""Evaluate a checkpoint of any OpenMMLab config, or run a robustness benchmark on it."""
import argparse

from mmrobust.utils.options import Overrides

from .arguments import (
    CONFIG,
    add_launcher,
    add_overrides,
    add_selection,
    add_trust,
    set_launcher,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument('--benchmark', metavar='NAME',
                        help='cityscapes-c, acdc, imagenet-c, pgd, ... or groups and names of '
                        'corruptions')
    add_options(parser)
    parser.add_argument('--out', metavar='FILE.pkl', help='save the raw predictions; of a '
                        'benchmark, those of each cell as FILE/<name>_<severity>.pkl')


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('config', help=CONFIG)
    parser.add_argument('checkpoint', help='checkpoint file, a work dir for its last one, or '
                        'what mmrobust export made of it (.onnx, .torchscript, .pt2)')


def add_options(parser: argparse.ArgumentParser) -> None:
    """What a test and a benchmark share."""
    parser.add_argument('--work-dir', help='where logs and results go '
                        '(default: work_dirs/NAME_OF_CONFIG)')
    add_selection(parser)
    parser.add_argument('--corrupted-root', metavar='DIR',
                        help='read corrupted images from DIR/<type>/<severity>/ instead of '
                        'corrupting on the fly')
    parser.add_argument('--benchmark-options', nargs='+', action=Overrides, metavar='KEY=VALUE',
                        help='options of the benchmark, e.g. data_root=data/acdc')
    parser.add_argument('--show-dir', metavar='DIR', help='save pictures of the predictions')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    add_trust(parser)
    add_overrides(parser)
    add_launcher(parser)


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    for flag in ('corruptions', 'severities', 'corrupted_root', 'benchmark_options'):
        if getattr(args, flag) and not args.benchmark:
            parser.error(f'--{flag.replace("_", "-")} needs --benchmark')


def run(args: argparse.Namespace) -> None:
    from mmrobust.apis import load_config, test
    from mmrobust.apis.benchmark import use_exported
    from mmrobust.apis.checks import require_parts
    from mmrobust.apis.launch import add_test_time_augmentation, draw_predictions
    from mmrobust.checkpoints import find_checkpoint
    from mmrobust.models.network import is_exported

    cfg = load_config(args.config, args.cfg_options)
    set_launcher(cfg, args)
    if is_exported(args.checkpoint):
        use_exported(cfg, args.checkpoint)
    else:
        cfg.load_from = find_checkpoint(args.checkpoint)
    if args.tta:
        add_test_time_augmentation(cfg)
    if args.benchmark:
        from mmrobust.evaluation import apply_benchmark

        options = args.benchmark_options or {}
        if args.show_dir:
            options['show_dir'] = args.show_dir
        if args.out:
            options['predictions'] = args.out.removesuffix('.pkl')
        apply_benchmark(cfg, args.benchmark, corruptions=args.corruptions,
                        severities=args.severities, corrupted_root=args.corrupted_root,
                        **options)
    elif args.show_dir:
        draw_predictions(cfg, args.show_dir)
    if args.amp:
        require_parts(cfg, 'test_cfg')
        cfg.test_cfg.fp16 = True
    test(cfg, predictions=None if args.benchmark else args.out, trust=args.trust)
