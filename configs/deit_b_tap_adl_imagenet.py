# DeiT-B with TAP and ADL on ImageNet-1k. RVT's recipe is DeiT's.
# The plain model: --cfg-options model.backbone.tap=None model.diversification=None
_base_ = [
    '_base_/models/deit_b.py', '_base_/datasets/imagenet_rvt.py',
    '_base_/schedules/imagenet_rvt.py', '_base_/default_runtime_cls.py'
]
model = dict(
    type='RobustModel',
    host='mmpretrain.ImageClassifier',
    diversification=dict(type='AttentionDiversificationLoss', tau=2.0, loss_weight=1.0))
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={
        '.cls_token': dict(decay_mult=0.0),
        '.pos_embed': dict(decay_mult=0.0),
    }))
