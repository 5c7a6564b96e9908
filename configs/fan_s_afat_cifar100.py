# FAN-S-Hybrid with AFAT on CIFAR-100 at 224 x 224. The paper adds DeepAugment copies:
# fan_s_afat_deepaugment_cifar100.py.
_base_ = './fan_s_cifar100.py'

model = dict(
    alignment=dict(type='AdversarialFeatureAlignment', loss_weight=5e-3, corruption=dict(
        type='PatchCorruptionModel', ratio=0.1)))

optim_wrapper = dict(constructor='AdversarialOptimWrapperConstructor')
