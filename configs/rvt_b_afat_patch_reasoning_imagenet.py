# RVT-B* with AFAT as released: with patch-reasoning attention, which the paper does not have, and
# 5 masked blocks instead of 12.
_base_ = './rvt_b_afat_imagenet.py'

model = dict(
    backbone=dict(patch_reasoning=True, masked_blocks=5))
