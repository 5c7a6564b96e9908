_base_ = './fan_s_cityscapes.py'
# ImageNet weights; from scratch: --cfg-options model.backbone.init_cfg=None
checkpoint = 'checkpoints/fan_s_tap_imagenet.pth'

model = dict(
    backbone=dict(tap=dict(num_branches=4), init_cfg=dict(checkpoint=checkpoint)))
