# FAN-T-Hybrid on CamVid, from scratch: real street scenes on a modest machine.
_base_ = [
    '_base_/models/segformer_fan.py', '_base_/datasets/camvid.py',
    '_base_/schedules/segmentation_scratch.py', '_base_/default_runtime_seg.py'
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(arch='tiny_hybrid', init_cfg=None),
    decode_head=dict(in_channels=[128, 256, 192, 192], channels=256))
