import pytest
import torch
import torch.nn.functional as F
from mmseg.utils import register_all_modules

from mmrobust.models.decode_heads.mlp_head import MLPDecodeHead


def plain_formulation(head, maps):
    """Project, upsample, concatenate, fuse: as SegFormer describes it."""
    projected = [linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
                 for x, linear in zip(maps, head.linears, strict=True)]
    projected = [F.interpolate(x, maps[0].shape[2:], mode='bilinear', align_corners=False)
                 for x in projected]
    return head.conv_seg(head.fusion_conv(torch.cat(projected[::-1], dim=1)))


@pytest.mark.parametrize('norm_cfg', [dict(type='BN'), None])
def test_equals_the_plain_formulation_with_gradients(norm_cfg):
    register_all_modules(init_default_scope=True)
    torch.manual_seed(0)
    head = MLPDecodeHead(in_channels=[6, 8, 10, 10], in_index=[0, 1, 2, 3], channels=12,
                         num_classes=5, dropout_ratio=0., norm_cfg=norm_cfg).double()
    maps = [torch.randn(2, c, h, w, dtype=torch.float64, requires_grad=True)
            for c, h, w in ((6, 12, 20), (8, 6, 10), (10, 3, 5), (10, 3, 5))]
    weight = torch.randn(2, 5, 12, 20, dtype=torch.float64)
    results = []
    for run in (head, lambda x: plain_formulation(head, x)):
        head.zero_grad()
        for x in maps:
            x.grad = None
        out = run(maps)
        (out * weight).sum().backward()
        results.append([out.detach()] + [p.grad.clone() for p in head.parameters()]
                       + [x.grad.clone() for x in maps])
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-10)
