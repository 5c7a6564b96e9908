"""Train and benchmark a grid of runs from one config; interrupted and repeated, it goes on.

    %(prog)s fan_t_tap_adl_camvid --benchmark cityscapes-c \\
        model.diversification.tau=1,2,4 model.backbone.tap.num_branches=2,4 --severities 3
"""
import argparse
from collections.abc import Sequence
from pathlib import Path

from mmrobust.utils.options import Overrides, parse_value

from .arguments import CONFIG, add_selection, config_name


def _override(text: str) -> str:
    if '=' not in text:
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form KEY=VALUE")
    return text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('config', help=CONFIG)
    parser.add_argument('grid', nargs='+', metavar='KEY=V1,V2,...',
                        help='keys of the config and their values; randomness.seed=0,1,2 repeats '
                        'runs')
    parser.add_argument('--benchmark', required=True, metavar='NAME', help='as of a test')
    add_selection(parser)
    parser.add_argument('--benchmark-options', nargs='+', action=Overrides, metavar='KEY=VALUE',
                        help='options of the benchmark, e.g. masks=100')
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    parser.add_argument('--cfg-options', nargs='+', default=[], type=_override,
                        metavar='KEY=VALUE', help='overrides of all runs')
    parser.add_argument('--out', help='folder of the runs '
                        '(default: work_dirs/NAME_OF_CONFIG_ablation)')


def run(args: argparse.Namespace) -> None:
    from mmrobust.analysis.ablation import parse_grid, run_ablation
    from mmrobust.apis.checks import check_overrides
    from mmrobust.apis.config import load_config
    from mmrobust.evaluation import apply_benchmark
    from mmrobust.utils.shipped import shipped

    grid = parse_grid(args.grid)
    # a mistake in these is said here rather than in a log
    cfg = load_config(args.config)
    check_overrides(cfg, list(grid[0]))
    options = args.benchmark_options or {}
    apply_benchmark(cfg, args.benchmark, args.corruptions, args.severities, **options)
    _check_models(args.config, args.cfg_options, grid)
    test = [*(['--benchmark-options', *(f'{key}={value}' for key, value in options.items())]
              if options else []),
            *(['--corruptions', *args.corruptions] if args.corruptions else []),
            *(['--severities', *map(str, args.severities)] if args.severities else [])]
    amp = ['--amp'] if args.amp else []
    out = args.out or Path('work_dirs', f'{config_name(args.config)}_ablation')
    print(run_ablation(shipped('tools'), args.config, grid, args.benchmark, out, args.cfg_options,
                       test + amp, amp))


def _check_models(config: str, fixed: Sequence[str], grid: Sequence[dict[str, str]]) -> None:
    """Build the model of every run, so that a mistake in the last one is said before the first."""
    from mmrobust.analysis.ablation import run_name
    from mmrobust.analysis.complexity import build_on_meta
    from mmrobust.apis.config import load_config
    from mmrobust.utils.mistakes import reading

    models = [{key: value for key, value in run.items() if key.startswith('model.')}
              for run in grid]
    for i, model in enumerate(models):
        if model in models[:i]:
            continue
        with reading(f"the run '{run_name(grid[i])}'"):
            options = dict(text.split('=', 1) for text in fixed) | model
            build_on_meta(load_config(config, {key: parse_value(value)
                                               for key, value in options.items()}))
