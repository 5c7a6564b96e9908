# Swin-B with TAP; a host model apart from it.
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='TAPSwinTransformer',
        arch='base',
        img_size=224,
        drop_path_rate=0.5,
        tap=dict(num_branches=4)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=1024,
        init_cfg=None,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')),
    init_cfg=[
        dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
    ])
