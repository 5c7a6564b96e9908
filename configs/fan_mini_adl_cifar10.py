_base_ = './fan_mini_cifar10.py'

model = dict(
    type='RobustModel',
    host='mmpretrain.ImageClassifier',
    diversification=dict(type='AttentionDiversificationLoss', tau=2.0, loss_weight=1.0))
