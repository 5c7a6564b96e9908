"""A whole training step of FAN-B or a DINO: plain, with TAP, ADL, both; ours and dense."""
import argparse
import json
from pathlib import Path
from unittest import mock

import _measure
import torch
from mmengine.registry import MODELS

from mmrobust.apis import load_config
from mmrobust.models.layers import tap
from mmrobust.models.losses import attention_diversification
from mmrobust.testing import dense_diverse_attention, dense_token_aware_avg_pool
from mmrobust.utils.allocator import keep_freed_memory

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
CASES = {  # suffix of the config, checkpointing, dense formulation
    'plain': ('', False, False),
    'TAP': ('_tap', False, False),
    'ADL': ('_adl', False, False),
    'TAP & ADL': ('_tap_adl', False, False),
    'TAP & ADL, checkpointing': ('_tap_adl', True, False),
    'TAP & ADL, dense': ('_tap_adl', False, True),
}
ARCHS = 'fan_t', 'fan_s', 'fan_b', 'fan_l', 'dinov2_s', 'dinov2_b', 'dinov3_s', 'dinov3_b'


def build(case: str, device: str, arch: str) -> torch.nn.Module:
    suffix, with_cp, _ = CASES[case]
    cfg = load_config(str(CONFIGS / f'{arch}{suffix}_cityscapes.py'), {
        'model.backbone.init_cfg': None, 'model.backbone.with_cp': with_cp})
    return MODELS.build(cfg.model).to(device).train()


def make_step(case: str, batch: int, size: int, part: str, device: str, dtype: str,
              arch: str, warm_up: bool = False):
    """A step on random images; of the backbone alone, or of the whole model with its losses."""
    if device == 'cpu':
        keep_freed_memory()  # as in training
    batch, size = (1, 64) if warm_up else (batch, size)
    model = build(case, device, arch)
    images = torch.randn(batch, 3, size, size, device=device)
    labels = torch.randint(19, (batch, 1, size, size), device=device)

    def loss() -> torch.Tensor:
        if part == 'model':
            from mmengine.structures import PixelData
            from mmseg.structures import SegDataSample
            samples = [SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels]
            return model.parse_losses(model.loss(images, samples))[0]
        if 'ADL' not in case:
            return sum(x.square().mean() for x in model.backbone(images))
        with model.diversification.listen() as records:
            maps = model.backbone(images)
        return sum(x.square().mean() for x in maps) + model.diversification(records)

    def step() -> None:
        with torch.autocast(device, getattr(torch, dtype), enabled=dtype != 'float32'):
            total = loss()
        total.backward()
        model.zero_grad()

    def dense_step() -> None:
        with mock.patch.object(attention_diversification, 'diverse_attention',
                               dense_diverse_attention), \
                mock.patch.object(tap, 'token_aware_avg_pool', dense_token_aware_avg_pool):
            step()

    return dense_step if CASES[case][2] else step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--sizes', type=_measure.size, nargs='+', default=[(2, 512), (1, 1024)],
                        help='images x side in pixels, such as 2x512')
    parser.add_argument('--arch', choices=ARCHS, default='fan_b')
    parser.add_argument('--cases', nargs='+', choices=CASES, default=list(CASES))
    parser.add_argument('--part', choices=['model', 'backbone'], default='model')
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    parser.add_argument('--dtype', choices=['float32', 'bfloat16', 'float16'], default='float32')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--dense-limit', type=int, default=512,
                        help='largest side for the dense formulation')
    parser.add_argument('--json', help='stores the figures')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    sizes = {f'{batch}x{side}': (batch, side, args.part, args.device, args.dtype,
                                    args.arch)
             for batch, side in args.sizes}
    records = _measure.compare(
        sizes, args.cases, args.cases[0], make_step, args.device, args.threads,
        skip=lambda case, batch, side, *_: CASES[case][2] and side > args.dense_limit)
    if args.json:
        Path(args.json).write_text(json.dumps(records, indent=1))


if __name__ == '__main__':
    main()
