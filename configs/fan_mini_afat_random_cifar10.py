# The baseline of AFAT: aligned with randomly corrupted patches; there is no adversary to train.
_base_ = './fan_mini_cifar10.py'

model = dict(
    type='RobustModel',
    host='mmpretrain.ImageClassifier',
    alignment=dict(type='AdversarialFeatureAlignment', loss_weight=5e-3, corruption=dict(
        type='RandomPatchCorruption', ratio=0.1, patch_size=4)))
