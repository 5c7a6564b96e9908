_base_ = './dinov3_mini_camvid.py'
model = dict(backbone=dict(tap=dict(num_branches=4)))
