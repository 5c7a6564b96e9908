# The main configuration: FAN-B-Hybrid with TAP and ADL, trained like the paper's.
_base_ = './fan_b_tap_cityscapes.py'
# ImageNet weights; from scratch: --cfg-options model.backbone.init_cfg=None
checkpoint = 'checkpoints/fan_b_tap_adl_imagenet.pth'

model = dict(
    type='RobustModel',
    host='mmseg.EncoderDecoder',
    diversification=dict(type='AttentionDiversificationLoss', tau=2.0, loss_weight=1.0),
    backbone=dict(init_cfg=dict(checkpoint=checkpoint)))
