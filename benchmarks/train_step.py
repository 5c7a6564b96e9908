"""A whole training step of FAN-B: plain, with TAP, with ADL, with both; ours and dense."""
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
CASES = {  # config, checkpointing, dense formulation
    'plain': ('fan_b_cityscapes', False, False),
    'TAP': ('fan_b_tap_cityscapes', False, False),
    'ADL': ('fan_b_adl_cityscapes', False, False),
    'TAP & ADL': ('fan_b_tap_adl_cityscapes', False, False),
    'TAP & ADL, checkpointing': ('fan_b_tap_adl_cityscapes', True, False),
    'TAP & ADL, dense': ('fan_b_tap_adl_cityscapes', False, True),
}


def build(case: str, device: str) -> torch.nn.Module:
    config, with_cp, _ = CASES[case]
    cfg = load_config(str(CONFIGS / f'{config}.py'), {
        'model.backbone.init_cfg': None, 'model.backbone.with_cp': with_cp})
    return MODELS.build(cfg.model).to(device).train()


def make_step(case: str, batch: int, size: int, part: str, device: str, dtype: str,
              warm_up: bool = False):
    """A step on random images; of the backbone alone, or of the whole model with its losses."""
    if device == 'cpu':
        keep_freed_memory()  # as in training
    batch, size = (1, 64) if warm_up else (batch, size)
    model = build(case, device)
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
    sizes = {f'{batch}x{side}': (batch, side, args.part, args.device, args.dtype)
             for batch, side in args.sizes}
    records = _measure.compare(
        sizes, args.cases, args.cases[0], make_step, args.device, args.threads,
        skip=lambda case, batch, side, *_: CASES[case][2] and side > args.dense_limit)
    if args.json:
        Path(args.json).write_text(json.dumps(records, indent=1))


if __name__ == '__main__':
    main()
