"""Write a trained model as ONNX, TorchScript or torch.export file, and benchmark the file.

    %(prog)s CONFIG CHECKPOINT
    %(prog)s CONFIG CHECKPOINT --to model.onnx model.torchscript model.pt2
    %(prog)s CONFIG CHECKPOINT --int8 --benchmark cityscapes-c    # does it cost robustness?

The file takes normalised images and returns logits. What it computes is compared with the model,
at another batch and image size too where those stay free. It stands for a checkpoint in
`mmrobust test` and `mmrobust benchmark`.
"""
import argparse
from pathlib import Path

from .arguments import CONFIG, add_overrides, add_selection, add_trust, config_name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('config', help=CONFIG)
    parser.add_argument('checkpoint', help='checkpoint file, or a work dir for its last one')
    parser.add_argument('--to', nargs='+', metavar='FILE',
                        help='.onnx, .torchscript, .pt2 (default: WORK_DIR/NAME_OF_CONFIG.onnx)')
    parser.add_argument('--int8', action='store_true',
                        help='also FILE_int8.onnx of every .onnx file: linear layers with weights '
                        'of 8 bits (dynamic quantisation)')
    parser.add_argument('--shape', nargs=2, type=int, metavar=('HEIGHT', 'WIDTH'),
                        help='of the example image (default: the crop of a segmenter, else '
                        '224 224)')
    parser.add_argument('--benchmark', metavar='NAME',
                        help='then run this benchmark on the model and on every file, and '
                        'compare them')
    add_selection(parser)
    parser.add_argument('--work-dir', help='where files and results go '
                        '(default: work_dirs/NAME_OF_CONFIG/export)')
    add_trust(parser)
    add_overrides(parser)


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    for flag in ('corruptions', 'severities'):
        if getattr(args, flag) and not args.benchmark:
            parser.error(f'--{flag} needs --benchmark')
    if args.int8 and args.to and not any(Path(file).suffix == '.onnx' for file in args.to):
        parser.error('--int8 is of ONNX files: name one with --to')


def run(args: argparse.Namespace) -> None:
    from mmrobust.apis.benchmark import benchmark
    from mmrobust.apis.config import load_config
    from mmrobust.apis.export import export, quantise
    from mmrobust.evaluation.comparison import compare

    cfg = load_config(args.config, args.cfg_options)
    name = config_name(args.config)
    work_dir = Path(args.work_dir or Path('work_dirs', name, 'export'))
    files = [Path(file) for file in args.to or [work_dir / f'{name}.onnx']]
    for written in export(cfg, args.checkpoint, files, args.shape, args.trust):
        print(written, flush=True)
    if args.int8:
        for file in [file for file in files if file.suffix == '.onnx']:
            small = quantise(file, file.with_stem(f'{file.stem}_int8'))
            print(f'{small}: {_megabytes(small)} for {_megabytes(file)}', flush=True)
            files.append(small)
    if args.benchmark:
        done = [benchmark(cfg, str(model), args.benchmark, name=title,
                          work_dir=str(work_dir / 'results' / title), corruptions=args.corruptions,
                          severities=args.severities, trust=args.trust)
                for title, model in [('original', args.checkpoint),
                                     *((file.name, file) for file in files)]]
        print(compare([results.path for results in done], work_dir))


def _megabytes(file: Path) -> str:
    return f'{file.stat().st_size / 1e6:.1f} MB'
