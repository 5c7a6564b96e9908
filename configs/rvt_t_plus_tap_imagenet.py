_base_ = './rvt_t_plus_imagenet.py'

model = dict(
    backbone=dict(tap=dict(num_branches=4)))
