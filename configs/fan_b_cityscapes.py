# FAN-B-Hybrid on Cityscapes: the papers' recipe.
_base_ = [
    '_base_/models/segformer_fan.py', '_base_/datasets/cityscapes.py',
    '_base_/schedules/segformer_160k.py', '_base_/default_runtime_seg.py'
]
# ImageNet weights; from scratch: --cfg-options model.backbone.init_cfg=None
checkpoint = 'checkpoints/fan_b_imagenet.pth'

model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(init_cfg=dict(checkpoint=checkpoint)),
    test_cfg=dict(mode='slide', crop_size=(1024, 1024), stride=(768, 768)))
