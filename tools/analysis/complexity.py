#!/usr/bin/env python
"""Count parameters and operations of models, and the share of attention and of TAP.

    python tools/analysis/complexity.py configs/fan_b_imagenet.py configs/fan_b_tap_imagenet.py
"""
import argparse
from pathlib import Path

from _common import main


def run() -> None:
    summary, _, usage = __doc__.partition('\n\n')
    parser = argparse.ArgumentParser(description=summary, epilog=usage,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+', help='config files')
    parser.add_argument('--shape', nargs=2, type=int, metavar=('HEIGHT', 'WIDTH'),
                        help='of the image (default: the crop of a segmenter, else 224 224)')
    parser.add_argument('--out', help='folder of the results '
                        '(default: work_dirs/NAME_OF_FIRST_CONFIG/analysis)')
    args = parser.parse_args()
    from mmrobust.analysis.complexity import complexity
    from mmrobust.apis.checks import require_parts
    from mmrobust.apis.config import adapt_to_cpu, load_config

    configs = []
    for path in args.configs:
        cfg = load_config(path)
        require_parts(cfg, 'model')
        adapt_to_cpu(cfg)
        configs.append((Path(path).stem, cfg))
    out = args.out or Path('work_dirs', configs[0][0], 'analysis')
    print(complexity(configs, out, args.shape))


if __name__ == '__main__':
    main(run)
