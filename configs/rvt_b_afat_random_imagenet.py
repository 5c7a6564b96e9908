# RVT-B*, the baseline of AFAT: random patches are corrupted; there is no adversary to train.
_base_ = './rvt_b_plus_imagenet.py'

model = dict(
    alignment=dict(type='AdversarialFeatureAlignment', loss_weight=5e-3, corruption=dict(
        type='RandomPatchCorruption', ratio=0.1)))
