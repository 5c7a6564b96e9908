_base_ = './dinov2_b_cityscapes.py'
model = dict(backbone=dict(tap=dict(num_branches=4)))
