# FAN-T-Hybrid on ImageNet-1k.
_base_ = [
    '_base_/models/fan_b.py', '_base_/datasets/imagenet_fan.py',
    '_base_/schedules/imagenet_fan.py', '_base_/default_runtime_cls.py'
]
model = dict(
    backbone=dict(arch='tiny_hybrid', drop_path_rate=0.1),
    head=dict(in_channels=192))
