from .feature_alignment import AdversarialFeatureAlignment
from .joint_pass import batch_half
from .patch_corruption import PatchCorruption, PatchCorruptionModel, RandomPatchCorruption

__all__ = ['AdversarialFeatureAlignment', 'PatchCorruption', 'PatchCorruptionModel',
           'RandomPatchCorruption', 'batch_half']
