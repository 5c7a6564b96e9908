_base_ = './dinov3_l_imagenet.py'
model = dict(backbone=dict(tap=dict(num_branches=4)))
