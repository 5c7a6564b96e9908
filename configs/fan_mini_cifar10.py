# A FAN of 1.8M parameters for CIFAR-10 at 32 x 32 pixels (8 x 8 tokens), as image files.
_base_ = [
    '_base_/models/fan_b.py', '_base_/datasets/cifar10_folders_32.py',
    '_base_/schedules/cifar_small.py', '_base_/default_runtime_cls.py'
]
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, patch_embed='conv', patch_size=4, embed_dims=(128,), depths=(6,),
                  num_heads=(4,)),
        drop_path_rate=0.05),
    head=dict(num_classes=10, in_channels=128))
