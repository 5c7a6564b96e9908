# FAN-S-Hybrid on CIFAR-100 at 224 x 224: AFAT's 200 epochs at a batch of 128
# on one GPU (on two: train_dataloader.batch_size=64).
_base_ = [
    '_base_/models/fan_b.py', '_base_/datasets/cifar100_224.py', '_base_/schedules/cifar_200e.py',
    '_base_/default_runtime_cls.py'
]
model = dict(
    type='RobustModel',
    host='mmpretrain.ImageClassifier',
    augmentation=dict(type='PatchAugmentation'),
    backbone=dict(arch='small_hybrid', drop_path_rate=0.25),
    head=dict(num_classes=100, in_channels=384))
