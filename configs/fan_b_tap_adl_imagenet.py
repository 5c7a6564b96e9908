# The main classification configuration: FAN-B-Hybrid with TAP and ADL, EMA decay 0.99996.
_base_ = './fan_b_tap_imagenet.py'

model = dict(
    type='RobustModel',
    host='mmpretrain.ImageClassifier',
    diversification=dict(type='AttentionDiversificationLoss', tau=2.0, loss_weight=1.0))

custom_hooks = [
    dict(type='EMAHook', momentum=4e-5, update_buffers=True, priority='ABOVE_NORMAL'),
]
