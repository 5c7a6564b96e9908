"""Train a model of any OpenMMLab config, ours or not."""
import argparse

from .arguments import CONFIG, add_launcher, add_overrides, add_trust, set_launcher


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('config', help=CONFIG)
    parser.add_argument('--work-dir', help='where logs and checkpoints go '
                        '(default: work_dirs/NAME_OF_CONFIG)')
    parser.add_argument('--resume', nargs='?', const='auto', metavar='CHECKPOINT',
                        help="continue from this checkpoint, or from the work dir's last one")
    parser.add_argument('--amp', action='store_true', help='mixed precision, on the CPU too')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help='scale the learning rate with the actual batch size')
    add_trust(parser)
    add_overrides(parser)
    add_launcher(parser)


def run(args: argparse.Namespace) -> None:
    import torch

    from mmrobust.apis import load_config, train
    from mmrobust.apis.config import scale_lr, use_amp

    cfg = load_config(args.config, args.cfg_options)
    set_launcher(cfg, args)
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    if args.amp:
        use_amp(cfg, on_cpu=not torch.cuda.is_available())
    if args.auto_scale_lr:
        scale_lr(cfg)
    train(cfg, trust=args.trust)
