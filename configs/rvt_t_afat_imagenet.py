# RVT-Ti* with AFAT and its patch-reasoning attention, as released.
_base_ = './rvt_t_plus_imagenet.py'

model = dict(
    alignment=dict(type='AdversarialFeatureAlignment', loss_weight=5e-3, corruption=dict(
        type='PatchCorruptionModel', ratio=0.1)),
    backbone=dict(patch_reasoning=True))

optim_wrapper = dict(constructor='AdversarialOptimWrapperConstructor')
