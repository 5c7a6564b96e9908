_base_ = './dinov3_s_imagenet.py'
model = dict(backbone=dict(tap=dict(num_branches=4)))
