# RVT-B*: position-aware attention scaling in every block, as the published 91.8M parameters
# have it (the published code masks 5 blocks: 88.5M), and patch-wise augmentation.
_base_ = './rvt_b_imagenet.py'

model = dict(
    type='RobustModel',
    host='mmpretrain.ImageClassifier',
    augmentation=dict(type='PatchAugmentation'),
    backbone=dict(arch='base_plus', masked_blocks=12))
