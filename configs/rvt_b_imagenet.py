# RVT-B on ImageNet-1k.
_base_ = [
    '_base_/models/rvt_s.py', '_base_/datasets/imagenet_rvt.py',
    '_base_/schedules/imagenet_rvt.py', '_base_/default_runtime_cls.py'
]
model = dict(
    backbone=dict(arch='base'),
    head=dict(in_channels=768))
