_base_ = './fan_t_imagenet.py'

model = dict(
    backbone=dict(tap=dict(num_branches=4)))
