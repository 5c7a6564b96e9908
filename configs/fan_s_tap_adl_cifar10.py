_base_ = './fan_s_cifar10.py'

model = dict(
    diversification=dict(type='AttentionDiversificationLoss', tau=2.0, loss_weight=1.0),
    backbone=dict(tap=dict(num_branches=4)))
