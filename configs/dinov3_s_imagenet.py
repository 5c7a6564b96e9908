# DINOv3-S on ImageNet-1k, fine-tuned as a whole with RVT's recipe at a tenth of its rate.
_base_ = [
    '_base_/models/dino.py', '_base_/datasets/imagenet_rvt.py',
    '_base_/schedules/imagenet_rvt.py', '_base_/default_runtime_cls.py'
]
# Its converted weights (docs/dino.md); from scratch: --cfg-options model.backbone.init_cfg=None
checkpoint = 'checkpoints/dinov3_s.pth'

model = dict(
    backbone=dict(
        type='DINOv3',
        arch='small',
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.')),
    head=dict(in_channels=384))
optim_wrapper = dict(
    optimizer=dict(lr=5e-5),
    paramwise_cfg=dict(custom_keys=dict(
        cls_token=dict(decay_mult=0.0),
        register_tokens=dict(decay_mult=0.0),
        pos_embed=dict(decay_mult=0.0))))
