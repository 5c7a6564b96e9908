# FAN-T-Hybrid with AFAT.
_base_ = './fan_t_imagenet.py'

model = dict(
    type='RobustModel',
    host='mmpretrain.ImageClassifier',
    alignment=dict(type='AdversarialFeatureAlignment', loss_weight=5e-3, corruption=dict(
        type='PatchCorruptionModel', ratio=0.1)))

optim_wrapper = dict(constructor='AdversarialOptimWrapperConstructor')
