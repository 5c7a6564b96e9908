"""Token-aware average pooling: ours against the unfold formulation and a plain copy.

Each step is the forward and backward pass; "kept" is what autograd stores besides the inputs.
"""
import argparse
import json
from pathlib import Path

import _measure
import torch

from mmrobust.ops import token_aware_avg_pool
from mmrobust.testing import dense_token_aware_avg_pool

CASES = {'ours': token_aware_avg_pool, 'unfold': dense_token_aware_avg_pool,
         'copy': lambda x, weights: x.clone()}


def make_inputs(size: int, args: argparse.Namespace) -> list[torch.Tensor]:
    """Tokens (B, N, C) seen as an image, the weights, and a gradient of the output."""
    kwargs = dict(device=args.device, dtype=getattr(torch, args.dtype))
    x, grad = (torch.randn(args.batch, size * size, args.channels, **kwargs)
               .transpose(1, 2).unflatten(2, (size, size)) for _ in range(2))
    weights = torch.randn(args.batch, args.branches, size, size, **kwargs).softmax(1)
    return [x.requires_grad_(), weights.requires_grad_(), grad]


def make_step(case: str, size: int, args: argparse.Namespace, warm_up: bool = False):
    x, weights, grad = make_inputs(8 if warm_up else size, args)

    def step():
        CASES[case](x, weights).backward(grad)
        x.grad = weights.grad = None

    return step


def kept_bytes(case: str, size: int, args: argparse.Namespace) -> int:
    x, weights, _ = make_inputs(size, args)
    inputs = {t.untyped_storage().data_ptr() for t in (x, weights)}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in inputs:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # alive: no address comes twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = CASES[case](x, weights)
    del out
    return sum(size for size, _ in kept.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--sizes', type=int, nargs='+', default=[32, 64], help='side of the grid')
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    parser.add_argument('--dtype', default='float32', choices=['float32', 'bfloat16', 'float16'])
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument('--channels', type=int, default=448)
    parser.add_argument('--branches', type=int, default=4)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--json', help='stores the figures')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    records = _measure.compare({f'{n} x {n}': (n, args) for n in args.sizes}, list(CASES), 'unfold',
                               make_step, args.device, args.threads)
    for size in args.sizes:
        kept = {case: kept_bytes(case, size, args) / 2**20 for case in CASES}
        print(f'kept at {size} x {size}: ' + ', '.join(f'{c} {m:.1f} MiB' for c, m in kept.items()))
    if args.json:
        Path(args.json).write_text(json.dumps(records, indent=1))


if __name__ == '__main__':
    main()
