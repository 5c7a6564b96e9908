# AFAT's CIFAR-10 training set: the images and their two DeepAugment copies (EDSR and CAE), all as
# files in folders named after the classes. docs/afat.md says how the copies are made; delete a
# line to do without.
_base_ = './cifar10_224.py'

data_preprocessor = dict(to_rgb=True)  # files are read as BGR

train_pipeline = [dict(type='LoadImageFromFile'), *_base_.train_pipeline]
test_pipeline = [dict(type='LoadImageFromFile'), *_base_.test_pipeline]

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        datasets=[
            dict(type='CustomDataset', data_root=data_root, pipeline=train_pipeline)
            for data_root in (
                'data/cifar10/train',
                'data/cifar10_deepaugment/EDSR',
                'data/cifar10_deepaugment/CAE',
            )
        ]))
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root='data/cifar10/val',
        pipeline=test_pipeline))
test_dataloader = val_dataloader
