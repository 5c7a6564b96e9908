# FAN-B-Hybrid on ImageNet-1k: the papers' recipe, at any batch size.
_base_ = [
    '_base_/models/fan_b.py', '_base_/datasets/imagenet_fan.py',
    '_base_/schedules/imagenet_fan.py', '_base_/default_runtime_cls.py'
]
# a longer warm-up than the smaller sizes
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6 / 2e-3, by_epoch=True, begin=0, end=10),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=10, end=300),
]
