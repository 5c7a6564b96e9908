# RVT-S* with AFAT on CIFAR-10 at 224 x 224. The paper adds DeepAugment copies:
# rvt_s_afat_deepaugment_cifar10.py.
_base_ = './rvt_s_plus_cifar10.py'

model = dict(
    alignment=dict(type='AdversarialFeatureAlignment', loss_weight=5e-3, corruption=dict(
        type='PatchCorruptionModel', ratio=0.1)))

optim_wrapper = dict(constructor='AdversarialOptimWrapperConstructor')
