# FAN-S-Hybrid with AFAT on CIFAR-10 at 224 x 224. The paper adds DeepAugment copies:
# _base_/datasets/cifar10_deepaugment_224.py reads them where they have been made.
_base_ = './fan_s_cifar10.py'

model = dict(
    alignment=dict(type='AdversarialFeatureAlignment', loss_weight=5e-3, corruption=dict(
        type='PatchCorruptionModel', ratio=0.1)))

optim_wrapper = dict(constructor='AdversarialOptimWrapperConstructor')
