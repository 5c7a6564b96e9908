# A very small FAN on generated street scenes: minutes on a laptop.
_base_ = [
    '_base_/models/segformer_fan.py', '_base_/datasets/synthetic_streets.py',
    '_base_/schedules/segmentation_scratch.py', '_base_/default_runtime_seg.py'
]
max_iters = 800
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(
        _delete_=True,
        type='FAN',
        arch=dict(patch_embed='hybrid', stem_depths=(1, 1), stem_dims=(32, 64),
                  depths=(4,), embed_dims=(96,), num_heads=(4,), out_indices=(3, -1))),
    decode_head=dict(in_channels=[32, 64, 96, 96], channels=96))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=50, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=200)
default_hooks = dict(checkpoint=dict(interval=200))
