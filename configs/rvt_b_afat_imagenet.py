# RVT-B* with AFAT: 91.8M parameters, as published. The released one is another model:
# rvt_b_afat_patch_reasoning_imagenet.py.
_base_ = './rvt_b_plus_imagenet.py'

model = dict(
    alignment=dict(type='AdversarialFeatureAlignment', loss_weight=5e-3, corruption=dict(
        type='PatchCorruptionModel', ratio=0.1)))

optim_wrapper = dict(constructor='AdversarialOptimWrapperConstructor')
