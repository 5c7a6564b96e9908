# FAN-S-Hybrid with AFAT on CIFAR-10 and its DeepAugment copies: the paper's experiment.
_base_ = './fan_s_deepaugment_cifar10.py'

model = dict(
    alignment=dict(type='AdversarialFeatureAlignment', loss_weight=5e-3, corruption=dict(
        type='PatchCorruptionModel', ratio=0.1)))

optim_wrapper = dict(constructor='AdversarialOptimWrapperConstructor')
