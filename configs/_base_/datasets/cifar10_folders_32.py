# CIFAR-10 as image files in class folders: data/cifar10/{train,val}/<class>/<image>.
_base_ = './cifar10_32.py'

data_preprocessor = dict(to_rgb=True)  # files are read as BGR

train_pipeline = [dict(type='LoadImageFromFile'), *_base_.train_pipeline]
test_pipeline = [dict(type='LoadImageFromFile'), *_base_.test_pipeline]

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root='data/cifar10',
        data_prefix='train',
        pipeline=train_pipeline))
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root='data/cifar10',
        data_prefix='val',
        pipeline=test_pipeline))
test_dataloader = val_dataloader
