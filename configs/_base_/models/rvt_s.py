# RVT-S with a linear classification head.
model = dict(
    type='ImageClassifier',
    backbone=dict(type='RVT', arch='small', out_type='avg_featmap', drop_path_rate=0.1),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=384,
        init_cfg=None,  # PyTorch's, as published
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')))
