# RVT-B* with AFAT and its patch-reasoning attention, as released: 5 masked blocks.
_base_ = './rvt_b_plus_imagenet.py'

model = dict(
    alignment=dict(type='AdversarialFeatureAlignment', loss_weight=5e-3, corruption=dict(
        type='PatchCorruptionModel', ratio=0.1)),
    backbone=dict(patch_reasoning=True, masked_blocks=5))

optim_wrapper = dict(constructor='AdversarialOptimWrapperConstructor')
