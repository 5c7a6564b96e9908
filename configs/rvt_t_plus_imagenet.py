# RVT-Ti*: position-aware attention scaling and patch-wise augmentation.
_base_ = './rvt_t_imagenet.py'

model = dict(
    type='RobustModel',
    host='mmpretrain.ImageClassifier',
    augmentation=dict(type='PatchAugmentation'),
    backbone=dict(arch='tiny_plus'))
