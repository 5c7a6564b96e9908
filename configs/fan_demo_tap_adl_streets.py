# A very small FAN with TAP and ADL on generated street scenes: minutes on a laptop.
_base_ = './fan_demo_streets.py'
model = dict(
    type='RobustModel',
    host='mmseg.EncoderDecoder',
    diversification=dict(type='AttentionDiversificationLoss', tau=2.0, loss_weight=1.0),
    backbone=dict(tap=dict(num_branches=4)))
