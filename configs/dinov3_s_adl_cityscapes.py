_base_ = './dinov3_s_cityscapes.py'
model = dict(
    type='RobustModel',
    host='mmseg.EncoderDecoder',
    diversification=dict(type='AttentionDiversificationLoss', tau=2.0, loss_weight=1.0))
