# RVT-S* on CIFAR-100 and its DeepAugment copies, as AFAT trains all models there; how to make
# the copies is written in docs/afat.md.
_base_ = [
    '_base_/models/rvt_s.py', '_base_/datasets/cifar100_deepaugment_224.py',
    '_base_/schedules/cifar_200e.py', '_base_/default_runtime_cls.py'
]
model = dict(
    type='RobustModel',
    host='mmpretrain.ImageClassifier',
    augmentation=dict(type='PatchAugmentation'),
    backbone=dict(arch='small_plus'),
    head=dict(num_classes=100))
