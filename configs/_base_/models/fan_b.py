# FAN-B-Hybrid with a linear classification head.
model = dict(
    type='ImageClassifier',
    backbone=dict(type='FAN', arch='base_hybrid', out_type='cls_token', drop_path_rate=0.35),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=448,
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')))
