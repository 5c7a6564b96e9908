_base_ = './dinov2_l_imagenet.py'
model = dict(backbone=dict(tap=dict(num_branches=4)))
