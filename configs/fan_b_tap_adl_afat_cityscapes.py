# TAP, ADL and AFAT together. Patches of 32 x 32 pixels tile the crop as a grid of 32 x 32.
_base_ = './fan_b_tap_adl_cityscapes.py'

model = dict(
    alignment=dict(type='AdversarialFeatureAlignment', loss_weight=5e-3, corruption=dict(
        type='PatchCorruptionModel', ratio=0.1, patch_size=32, grid=32)))

optim_wrapper = dict(constructor='AdversarialOptimWrapperConstructor')
