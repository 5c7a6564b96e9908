# RVT-Ti* with AFAT as released: with patch-reasoning attention, which the paper does not have.
_base_ = './rvt_t_afat_imagenet.py'

model = dict(
    backbone=dict(patch_reasoning=True))
