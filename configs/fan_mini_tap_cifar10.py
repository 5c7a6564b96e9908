_base_ = './fan_mini_cifar10.py'

model = dict(
    backbone=dict(tap=dict(num_branches=4)))
