"""Attention with diversification: ours against the dense formulation and plain SDPA without it.

Each step is the forward and backward pass of one layer, including the diversification loss.
"""
import argparse
import json
import os
from pathlib import Path

import _measure
import torch
import torch.nn.functional as F
from torch import Tensor

from mmrobust.ops import diverse_attention
from mmrobust.testing import dense_diverse_attention


def flash(q: Tensor, k: Tensor, v: Tensor, threshold: float):
    """PyTorch's own flash attention, which on new cards is not what it chooses by itself."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return F.scaled_dot_product_attention(q, k, v), None, None


CASES = {
    'ours': diverse_attention,
    'dense': dense_diverse_attention,
    'sdpa': lambda q, k, v, threshold: (F.scaled_dot_product_attention(q, k, v), None, None),
    'flash': flash}


def diversity(column_sum: Tensor, normalized: Tensor) -> Tensor:
    similarity = F.normalize(column_sum, dim=-1) * normalized
    return similarity.sum(-1).mean() / column_sum.shape[-1]


def make_step(case: str, tokens: int, args: argparse.Namespace, warm_up: bool = False):
    """A training step on q, k, v as a linear layer leaves them: heads behind the tokens."""
    tokens = 64 if warm_up else tokens
    shape = args.batch, tokens, args.heads, args.channels // args.heads
    q, k, v, grad = (torch.randn(shape, device=args.device, dtype=getattr(torch, args.dtype))
                     .transpose(1, 2) for _ in range(4))
    inputs = [x.requires_grad_() for x in (q, k, v)]

    def step():
        out, column_sum, normalized = CASES[case](*inputs, threshold=2)
        if column_sum is None:
            torch.autograd.backward([out], [grad])
        else:
            torch.autograd.backward([out, diversity(column_sum, normalized)], [grad, None])
        for x in inputs:
            x.grad = None

    return step


def draw(records: list[dict], path: str, title: str) -> None:
    import matplotlib
    matplotlib.use('agg')
    from matplotlib import pyplot as plt

    names = {'ours': 'ours, with ADL', 'dense': 'dense, with ADL', 'sdpa': 'SDPA, without ADL'}
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), constrained_layout=True)
    for axis, key, label in zip(axes, ('milliseconds', 'megabytes'),
                                ('forward + backward (ms)', 'peak memory (MiB)'), strict=True):
        for (case, name), style in zip(names.items(), ('o-', 's--', '^:'), strict=True):
            points = [(int(r['size']), r[key]) for r in records if r['case'] == case]
            axis.plot(*zip(*points, strict=True), style, label=name)
        sizes = sorted({int(r['size']) for r in records})
        axis.set(xscale='log', yscale='log', xlabel='tokens', ylabel=label)
        axis.set_xticks(sizes, [f'{n:,}' for n in sizes], minor=False)
        axis.minorticks_off()
        axis.grid(alpha=.3)
        axis.legend(frameon=False)
    figure.suptitle(title)
    partial = f'{path}.part'
    figure.savefig(partial, dpi=150, format=Path(path).suffix[1:] or 'png')
    os.replace(partial, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--tokens', type=int, nargs='+')
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    parser.add_argument('--dtype', default='float32', choices=['float32', 'bfloat16', 'float16'])
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--channels', type=int, default=448)
    parser.add_argument('--heads', type=int, default=8)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--dense-limit', type=int, default=4096,
                        help='largest number of tokens for the dense formulation')
    parser.add_argument('--chart', help='draws time and memory against the number of tokens')
    parser.add_argument('--json', help='stores the figures')
    args = parser.parse_args()
    if args.tokens is None:
        args.tokens = [4**n for n in range(4, 8)] if args.chart else [1024, 2304, 4096]
    torch.set_num_threads(args.threads)
    records = _measure.compare(
        {str(n): (n, args) for n in args.tokens}, list(CASES), 'sdpa', make_step, args.device,
        args.threads, skip=lambda case, n, _: (
            case == 'dense' and n > args.dense_limit
            or case == 'flash' and (args.device == 'cpu' or args.dtype == 'float32')))
    if args.json:
        Path(args.json).write_text(json.dumps(records, indent=1))
    if args.chart:
        draw(records, args.chart, f'{args.channels} channels, {args.heads} heads, {args.dtype}, '
             + ('CUDA' if args.device == 'cuda' else f'CPU, {args.threads} threads'))


if __name__ == '__main__':
    main()
