_base_ = './dinov3_s_imagenet.py'
model = dict(
    type='RobustModel',
    host='mmpretrain.ImageClassifier',
    diversification=dict(type='AttentionDiversificationLoss', tau=2.0, loss_weight=1.0))
