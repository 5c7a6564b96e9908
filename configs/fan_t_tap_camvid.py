_base_ = './fan_t_camvid.py'
model = dict(backbone=dict(tap=dict(num_branches=4)))
