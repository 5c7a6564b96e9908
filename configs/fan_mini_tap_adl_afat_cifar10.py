# TAP, ADL and AFAT together.
_base_ = './fan_mini_tap_adl_cifar10.py'

model = dict(
    alignment=dict(type='AdversarialFeatureAlignment', loss_weight=5e-3, corruption=dict(
        type='PatchCorruptionModel', ratio=0.1, patch_size=4, grid=8)))

optim_wrapper = dict(constructor='AdversarialOptimWrapperConstructor')
