from .corruption_models import PatchCorruption, PatchCorruptionModel, RandomPatchCorruption
from .feature_alignment import AdversarialFeatureAlignment
from .joint_pass import batch_half

__all__ = ['AdversarialFeatureAlignment', 'PatchCorruption', 'PatchCorruptionModel',
           'RandomPatchCorruption', 'batch_half']
