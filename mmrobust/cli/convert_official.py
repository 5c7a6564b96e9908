"""Convert the authors' checkpoints to ours, or ours back to the authors' names."""
import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmrobust.checkpoints import Conversion


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('source', help='.pth, .pth.tar or .safetensors file')
    parser.add_argument('target', nargs='?', help='file to write; .safetensors or .pth')
    parser.add_argument('--to-official', action='store_true',
                        help="convert our checkpoint to the authors' names")
    parser.add_argument('--weights', choices=('auto', 'ema', 'model'), default='auto',
                        help='the moving average, the model itself, or (auto) the moving average '
                             'where the file has one')
    parser.add_argument('--num-heads', type=int, nargs='+',
                        help='heads of each stage, for an RVT or DINO of a size that has no name')
    parser.add_argument('--rope-base', type=float,
                        help='base of the rotary embedding, for DINOv3 files of Hugging Face '
                             '(rope_theta in their config.json) and timm, which do not hold it; '
                             'by default 100, as published')
    parser.add_argument('--dry-run', action='store_true',
                        help='print which name becomes which, and write nothing')
    parser.add_argument('--trust', action='store_true',
                        help='run what the file asks to run; only for files whose source you trust')


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.target is None and not args.dry_run:
        parser.error('name the file to write, or give --dry-run')


def as_code(value: Any) -> str:
    """A config as it stands in a config file."""
    if isinstance(value, dict):
        return f'dict({", ".join(f"{k}={as_code(v)}" for k, v in value.items())})'
    return repr(value)


def convert(args: argparse.Namespace) -> 'tuple[Conversion, dict]':
    """The conversion, and the checkpoint to write."""
    from mmrobust.checkpoints import from_official, load_foreign, to_official

    checkpoint = load_foreign(args.source, args.trust)
    if args.to_official:
        conversion = to_official(checkpoint)
        weights = conversion.state_dict
        # timm and MMSegmentation 0.x read the one entry, RVT's code the other
        return conversion, dict(state_dict=weights, model=weights)
    conversion = from_official(checkpoint, args.weights, args.num_heads and tuple(args.num_heads),
                               args.rope_base)
    meta = dict(converted_from=Path(args.source).name, weights=conversion.source,
                config=conversion.recognition.config)
    theirs = checkpoint.get('meta') or {}
    if 'CLASSES' in theirs:
        meta['dataset_meta'] = dict(classes=theirs['CLASSES'], palette=theirs.get('PALETTE'))
    return conversion, dict(meta=meta, state_dict=conversion.state_dict)


def report(conversion: 'Conversion') -> None:
    """Say what was found."""
    found = conversion.recognition
    print(f"found in '{conversion.source}': {found.description}")
    if conversion.ignored:
        print(f'left out, as the model does without: {", ".join(conversion.ignored)}')
    print(f'{"model" if found.head else "backbone"} = {as_code(found.config)}')


def run(args: argparse.Namespace) -> None:
    from mmrobust.checkpoints import save_checkpoint

    conversion, checkpoint = convert(args)
    report(conversion)
    if args.dry_run:
        for old, new in conversion.names.items():
            print(f'{old} -> {new}')
    else:
        save_checkpoint(checkpoint, args.target)
        print(f'wrote {len(conversion.names)} weights to {args.target}')
