# RVT-Ti on ImageNet-1k: two stages, 192 and 384 wide.
_base_ = [
    '_base_/models/rvt_s.py', '_base_/datasets/imagenet_rvt.py',
    '_base_/schedules/imagenet_rvt.py', '_base_/default_runtime_cls.py'
]
model = dict(
    backbone=dict(arch='tiny'),
    head=dict(in_channels=384))
