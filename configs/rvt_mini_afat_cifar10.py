# Patches of 4 x 4 pixels: one token each.
_base_ = './rvt_mini_cifar10.py'

model = dict(
    type='RobustModel',
    host='mmpretrain.ImageClassifier',
    alignment=dict(type='AdversarialFeatureAlignment', loss_weight=5e-3, corruption=dict(
        type='PatchCorruptionModel', ratio=0.1, patch_size=4, grid=8)))

optim_wrapper = dict(constructor='AdversarialOptimWrapperConstructor')
