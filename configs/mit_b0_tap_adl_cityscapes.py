# SegFormer-B0 with TAP and ADL on Cityscapes: MMSegmentation's recipe.
# The plain model: --cfg-options model.backbone.tap=None model.diversification=None
_base_ = [
    '_base_/models/mit_b0.py', '_base_/datasets/cityscapes.py',
    '_base_/schedules/segformer_160k.py', '_base_/default_runtime_seg.py'
]
# MMSegmentation's ImageNet weights; from scratch: --cfg-options model.backbone.init_cfg=None
checkpoint = 'https://mmassets.onedl.ai/mmsegmentation/v0.5/pretrain/segformer/mit_b0_20220624-7e0fe6dd.pth'  # noqa: E501

model = dict(
    type='RobustModel',
    host='mmseg.EncoderDecoder',
    diversification=dict(type='AttentionDiversificationLoss', tau=2.0, loss_weight=1.0),
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=checkpoint)),
    test_cfg=dict(mode='slide', crop_size=(1024, 1024), stride=(768, 768)))
