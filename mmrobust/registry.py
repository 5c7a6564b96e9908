"""What mmrobust registers, and where it lives.

MMEngine's root registries are parents of every host library's registries, so a config of any
scope finds these names. Each name is first registered as a placeholder that imports the module
when something is built from it; the module then registers the class itself in its place.
"""
from collections.abc import Callable
from importlib import import_module
from typing import Any

ON_DEMAND: dict[str, dict[str, str]] = {
    'MODELS': {
        'MLPDecodeHead': 'mmrobust.models.decode_heads.mlp_head',
        'FAN': 'mmrobust.models.backbones.fan',
        'RVT': 'mmrobust.models.backbones.rvt',
        'TAPMixVisionTransformer': 'mmrobust.models.backbones.tap_mit',
        'TAPSwinTransformer': 'mmrobust.models.backbones.tap_swin',
        'TAPVisionTransformer': 'mmrobust.models.backbones.tap_vit',
        'AdversarialFeatureAlignment': 'mmrobust.models.alignment.feature_alignment',
        'PatchCorruptionModel': 'mmrobust.models.alignment.patch_corruption',
        'RandomPatchCorruption': 'mmrobust.models.alignment.patch_corruption',
        'AttentionDiversificationLoss': 'mmrobust.models.losses.attention_diversification',
        'PatchAugmentation': 'mmrobust.models.layers.patch_augmentation',
        'RobustModel': 'mmrobust.models.robust_model',
    },
    'DATASETS': {
        'ACDCDataset': 'mmrobust.datasets.acdc',
        'CIFAR10C': 'mmrobust.datasets.cifar_c',
        'CIFAR100C': 'mmrobust.datasets.cifar_c',
        'ImageNetA': 'mmrobust.datasets.imagenet_variants',
        'ImageNetC': 'mmrobust.datasets.imagenet_variants',
        'ImageNetP': 'mmrobust.datasets.imagenet_p',
        'ImageNetR': 'mmrobust.datasets.imagenet_variants',
        'ImageNetSketch': 'mmrobust.datasets.imagenet_variants',
        'SyntheticStreets': 'mmrobust.datasets.synthetic_streets',
    },
    'OPTIM_WRAPPERS': {
        'CPUAmpOptimWrapper': 'mmrobust.engine.cpu_amp',
    },
    'OPTIM_WRAPPER_CONSTRUCTORS': {
        'AdversarialOptimWrapperConstructor': 'mmrobust.engine.adversarial_optim_wrapper',
    },
    'TASK_UTILS': {
        'PGD': 'mmrobust.attacks.pgd',
        'PatchFool': 'mmrobust.attacks.patch_fool',
        'PatchCorruptionAttack': 'mmrobust.attacks.patch_corruption',
    },
    'TRANSFORMS': {
        'Corrupt': 'mmrobust.datasets.transforms.corrupt',
    },
    'METRICS': {
        'ACDCMetric': 'mmrobust.evaluation.acdc_metric',
        'FlipProbability': 'mmrobust.evaluation.metrics.flip_rate',
        'SubsetAccuracy': 'mmrobust.evaluation.metrics.subset_accuracy',
    },
    'DATA_SAMPLERS': {
    },
    'HOOKS': {
        'AttentionStatisticsHook': 'mmrobust.analysis.training_hook',
        'CheckDataHook': 'mmrobust.datasets.validation',
        'CheckLabelsHook': 'mmrobust.datasets.labels',
        'CheckMetricsHook': 'mmrobust.evaluation.trial',
        'CheckWeightsHook': 'mmrobust.engine.weights_hook',
        'SafeCheckpointHook': 'mmrobust.engine.checkpoint_hook',
        'SaveOnStopHook': 'mmrobust.engine.stop_hook',
    },
    'LOOPS': {
        'ResumableEpochBasedTrainLoop': 'mmrobust.engine.loops',
        'ResumableIterBasedTrainLoop': 'mmrobust.engine.loops',
        'CorruptionTestLoop': 'mmrobust.evaluation.loop',
    },
}


def _placeholder(name: str, module: str) -> Callable[..., Any]:
    def build(*args, **kwargs):
        return getattr(import_module(module), name)(*args, **kwargs)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f'Builds a :class:`{module}.{name}`.'
    return build


def register_all() -> None:
    """Register every name of :data:`ON_DEMAND` that is not registered yet.

    Without MMEngine there is nothing to plug into; the plain parts work.
    """
    try:
        from mmengine import registry as mmengine_registry
    except ModuleNotFoundError as error:
        if error.name != 'mmengine':
            raise
        return
    for registry_name, entries in ON_DEMAND.items():
        registry = getattr(mmengine_registry, registry_name)
        for name, module in entries.items():
            if name not in registry.module_dict:
                registry.register_module(name=name, module=_placeholder(name, module))
