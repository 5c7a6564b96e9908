"""What mmrobust registers, and where it lives.

MMEngine's root registries are parents of every host library's registries, so a config of any
scope finds these names. Each name is first registered as a placeholder that imports the module
when something is built from it; the module then registers the class itself in its place.
"""
from collections.abc import Callable
from importlib import import_module
from typing import Any

from mmengine import registry as mmengine_registry

ON_DEMAND: dict[str, dict[str, str]] = {
    'MODELS': {
        'MLPDecodeHead': 'mmrobust.models.decode_heads.mlp_head',
        'FAN': 'mmrobust.models.backbones.fan',
        'RVT': 'mmrobust.models.backbones.rvt',
        'AttentionDiversificationLoss': 'mmrobust.models.losses.attention_diversification',
        'PatchAugmentation': 'mmrobust.models.layers.patch_augmentation',
        'RobustModel': 'mmrobust.models.robust_model',
    },
    'DATASETS': {
        'CIFAR10C': 'mmrobust.datasets.cifar_c',
        'CIFAR100C': 'mmrobust.datasets.cifar_c',
        'ImageNetA': 'mmrobust.datasets.imagenet_variants',
        'ImageNetC': 'mmrobust.datasets.imagenet_variants',
        'ImageNetP': 'mmrobust.datasets.imagenet_p',
        'ImageNetR': 'mmrobust.datasets.imagenet_variants',
        'ImageNetSketch': 'mmrobust.datasets.imagenet_variants',
        'ImageNetSubset': 'mmrobust.datasets.imagenet_variants',
        'SyntheticStreets': 'mmrobust.datasets.synthetic_streets',
    },
    'OPTIM_WRAPPERS': {
    },
    'TRANSFORMS': {
    },
    'METRICS': {
        'FlipProbability': 'mmrobust.evaluation.metrics.flip_rate',
        'SubsetAccuracy': 'mmrobust.evaluation.metrics.subset_accuracy',
    },
    'DATA_SAMPLERS': {
    },
    'HOOKS': {
    },
    'LOOPS': {
    },
}


def _placeholder(name: str, module: str) -> Callable[..., Any]:
    def build(*args, **kwargs):
        return getattr(import_module(module), name)(*args, **kwargs)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f'Builds a :class:`{module}.{name}`.'
    return build


def register_all() -> None:
    """Register every name of :data:`ON_DEMAND` that is not registered yet."""
    for registry_name, entries in ON_DEMAND.items():
        registry = getattr(mmengine_registry, registry_name)
        for name, module in entries.items():
            if name not in registry.module_dict:
                registry.register_module(name=name, module=_placeholder(name, module))
