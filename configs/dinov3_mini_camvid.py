# A small DINOv3 with 8 x 8 patches on CamVid, from scratch: real street scenes on two cores.
_base_ = [
    '_base_/models/segformer_dino.py', '_base_/datasets/camvid.py',
    '_base_/schedules/segmentation_scratch.py', '_base_/default_runtime_seg.py'
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=96, num_layers=4, num_heads=3,
                  feedforward_channels=384),
        patch_size=8,
        layer_scale=1.0,  # 1e-5 is for long pretraining
        out_indices=(0, 1, 2, 3)),
    decode_head=dict(in_channels=[96, 96, 96, 96], channels=128))
