_base_ = './fan_b_cityscapes.py'
# ImageNet weights; from scratch: --cfg-options model.backbone.init_cfg=None
checkpoint = 'checkpoints/fan_l_imagenet.pth'

model = dict(
    backbone=dict(arch='large_hybrid', init_cfg=dict(checkpoint=checkpoint)),
    decode_head=dict(in_channels=[128, 256, 480, 480]))
