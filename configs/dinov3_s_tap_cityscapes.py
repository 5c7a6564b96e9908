_base_ = './dinov3_s_cityscapes.py'
model = dict(backbone=dict(tap=dict(num_branches=4)))
