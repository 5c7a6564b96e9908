# DINOv3-B with a linear head on its class token.
model = dict(
    type='ImageClassifier',
    backbone=dict(type='DINOv3', arch='base', out_type='cls_token', drop_path_rate=0.1),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=768,
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')))
