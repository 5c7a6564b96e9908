# TAP, ADL and AFAT together.
_base_ = './fan_b_tap_adl_imagenet.py'

model = dict(
    alignment=dict(type='AdversarialFeatureAlignment', loss_weight=5e-3, corruption=dict(
        type='PatchCorruptionModel', ratio=0.1)))

optim_wrapper = dict(constructor='AdversarialOptimWrapperConstructor')
