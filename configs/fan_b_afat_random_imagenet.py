# FAN-B-Hybrid, the baseline of AFAT: random patches are corrupted; there is no adversary to train.
_base_ = './fan_b_imagenet.py'

model = dict(
    type='RobustModel',
    host='mmpretrain.ImageClassifier',
    alignment=dict(type='AdversarialFeatureAlignment', loss_weight=5e-3, corruption=dict(
        type='RandomPatchCorruption', ratio=0.1)))
