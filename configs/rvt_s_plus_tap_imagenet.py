_base_ = './rvt_s_plus_imagenet.py'

model = dict(
    backbone=dict(tap=dict(num_branches=4)))
