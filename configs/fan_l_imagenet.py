# FAN-L-Hybrid on ImageNet-1k, whose head starts a thousand times smaller.
_base_ = './fan_b_imagenet.py'

model = dict(
    backbone=dict(arch='large_hybrid', drop_path_rate=0.45),
    head=dict(in_channels=480, init_cfg=dict(std=2e-5)))
