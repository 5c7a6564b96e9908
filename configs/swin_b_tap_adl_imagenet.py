# Swin-B with TAP and ADL (each window a map) on ImageNet-1k: Swin's recipe, 20 epochs of warm-up.
# The plain model: --cfg-options model.backbone.tap=None model.diversification=None
_base_ = [
    '_base_/models/swin_b.py', '_base_/datasets/imagenet_rvt.py',
    '_base_/schedules/imagenet_rvt.py', '_base_/default_runtime_cls.py'
]
model = dict(
    type='RobustModel',
    host='mmpretrain.ImageClassifier',
    diversification=dict(type='AttentionDiversificationLoss', tau=2.0, loss_weight=1.0))
# no repeated augmentation
train_dataloader = dict(sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True))
optim_wrapper = dict(
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(custom_keys={'.relative_position_bias_table': dict(decay_mult=0.0)}))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=20),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=20, end=300),
]
train_cfg = dict(max_epochs=300)
custom_hooks = []
