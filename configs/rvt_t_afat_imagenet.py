# RVT-Ti* with AFAT. The released one has patch-reasoning attention:
# rvt_t_afat_patch_reasoning_imagenet.py.
_base_ = './rvt_t_plus_imagenet.py'

model = dict(
    alignment=dict(type='AdversarialFeatureAlignment', loss_weight=5e-3, corruption=dict(
        type='PatchCorruptionModel', ratio=0.1)))

optim_wrapper = dict(constructor='AdversarialOptimWrapperConstructor')
