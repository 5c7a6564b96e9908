# CIFAR-100 from the original pickles, enlarged to 224 x 224; see cifar10_224.py.
_base_ = './cifar10_224.py'

data_preprocessor = dict(num_classes=100)

train_dataloader = dict(dataset=dict(type='CIFAR100', data_root='data/cifar100'))
val_dataloader = dict(dataset=dict(type='CIFAR100', data_root='data/cifar100'))
test_dataloader = val_dataloader
