_base_ = './rvt_t_plus_tap_imagenet.py'

model = dict(
    diversification=dict(type='AttentionDiversificationLoss', tau=2.0, loss_weight=1.0))
