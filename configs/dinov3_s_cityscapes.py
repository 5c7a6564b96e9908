# DINOv3-S on Cityscapes with SegFormer's head and schedule, fine-tuned as a whole.
_base_ = [
    '_base_/models/segformer_dino.py', '_base_/datasets/cityscapes.py',
    '_base_/schedules/segformer_160k.py', '_base_/default_runtime_seg.py'
]
# Its converted weights (docs/dino.md); from scratch: --cfg-options model.backbone.init_cfg=None
checkpoint = 'checkpoints/dinov3_s.pth'

model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(
        type='DINOv3',
        arch='small',
        out_indices=(2, 5, 8, 11),
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.')),
    decode_head=dict(in_channels=[384, 384, 384, 384]),
    test_cfg=dict(mode='slide', crop_size=(1024, 1024), stride=(768, 768)))
