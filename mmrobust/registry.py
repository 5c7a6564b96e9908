"""What mmrobust registers, and where it lives.

MMEngine's root registries are parents of every host library's registries, so a config of any
scope finds these names. Each is first a placeholder; who asks a registry for it gets the class
itself, whose module is imported then. (The `locations` of MMEngine's registries cannot do this: a
child registry looks into its parent without importing them, and they come all at once, so that
a host library that is not installed would take everything with it.)
"""
from importlib import import_module
from typing import Any

ON_DEMAND: dict[str, dict[str, str]] = {
    'MODELS': {
        'MLPDecodeHead': 'mmrobust.models.decode_heads.mlp_head',
        'LogitsHead': 'mmrobust.models.decode_heads.logits_head',
        'ExportedNetwork': 'mmrobust.models.network',
        'Network': 'mmrobust.models.network',
        'DINOv2': 'mmrobust.models.backbones.dino',
        'DINOv3': 'mmrobust.models.backbones.dino',
        'FAN': 'mmrobust.models.backbones.fan',
        'RVT': 'mmrobust.models.backbones.rvt',
        'TAPMixVisionTransformer': 'mmrobust.models.backbones.tap_mit',
        'TAPSwinTransformer': 'mmrobust.models.backbones.tap_swin',
        'TAPVisionTransformer': 'mmrobust.models.backbones.tap_vit',
        'AdversarialFeatureAlignment': 'mmrobust.models.alignment.feature_alignment',
        'PatchCorruptionModel': 'mmrobust.models.alignment.corruption_models',
        'RandomPatchCorruption': 'mmrobust.models.alignment.corruption_models',
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
        'NamedSubset': 'mmrobust.datasets.subset',
        'SyntheticStreets': 'mmrobust.demo.synthetic_streets',
    },
    'OPTIM_WRAPPERS': {
        'CPUAmpOptimWrapper': 'mmrobust.engine.cpu_amp',
    },
    'OPTIM_WRAPPER_CONSTRUCTORS': {
        'AdversarialOptimWrapperConstructor': 'mmrobust.engine.adversarial_optim_wrapper',
    },
    'TASK_UTILS': {
        'AutoAttack': 'mmrobust.attacks.auto_attack',
        'PGD': 'mmrobust.attacks.pgd',
        'SegmentationEnsemble': 'mmrobust.attacks.sea',
        'PatchFool': 'mmrobust.attacks.patch_fool',
        'PatchCorruptionAttack': 'mmrobust.attacks.patch_corruption',
    },
    'TRANSFORMS': {
        'Corrupt': 'mmrobust.datasets.transforms.corrupt',
    },
    'METRICS': {
        'ACDCMetric': 'mmrobust.evaluation.metrics.acdc_metric',
        'RobustnessMeasures': 'mmrobust.evaluation.metrics.measures',
        'FlipProbability': 'mmrobust.evaluation.metrics.flip_rate',
        'SubsetAccuracy': 'mmrobust.evaluation.metrics.subset_accuracy',
    },
    'HOOKS': {
        'AttentionStatisticsHook': 'mmrobust.analysis.training_hook',
        'CheckDataHook': 'mmrobust.datasets.completeness',
        'CheckLabelsHook': 'mmrobust.datasets.labels',
        'CheckMetricsHook': 'mmrobust.evaluation.trial',
        'CheckWeightsHook': 'mmrobust.engine.weights_hook',
        'SafeCheckpointHook': 'mmrobust.engine.checkpoint_hook',
        'SaveOnStopHook': 'mmrobust.engine.stop_hook',
    },
    'LOOPS': {
        'RepeatableValLoop': 'mmrobust.engine.loops',
        'ResumableEpochBasedTrainLoop': 'mmrobust.engine.loops',
        'ResumableIterBasedTrainLoop': 'mmrobust.engine.loops',
        'CorruptionTestLoop': 'mmrobust.evaluation.loop',
    },
}


class Placeholder:
    """Stands for a registered class until somebody asks for it.

    Args:
        name (str): Name of the class.
        module (str): Module that defines and registers it.
    """

    def __init__(self, name: str, module: str):
        self.__name__ = self.__qualname__ = name
        self.__module__ = module

    def load(self) -> Any:
        """The class itself."""
        return getattr(import_module(self.__module__), self.__name__)

    def __repr__(self) -> str:
        return f'<{self.__module__}.{self.__name__}, not yet imported>'


class _Modules(dict):
    """The names of a registry, of which placeholders are replaced when they are looked up."""

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        if isinstance(value, Placeholder):
            value = self[name] = value.load()
        return value

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default


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
        if not isinstance(registry._module_dict, _Modules):
            registry._module_dict = _Modules(registry._module_dict)
        for name, module in entries.items():
            registry._module_dict.setdefault(name, Placeholder(name, module))
