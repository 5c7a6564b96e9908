_base_ = './mit_b0_tap_adl_cityscapes.py'
checkpoint = 'https://mmassets.onedl.ai/mmsegmentation/v0.5/pretrain/segformer/mit_b1_20220624-02e5a6a1.pth'  # noqa: E501

model = dict(
    backbone=dict(
        embed_dims=64,
        init_cfg=dict(checkpoint=checkpoint)),
    decode_head=dict(in_channels=[64, 128, 320, 512]))
