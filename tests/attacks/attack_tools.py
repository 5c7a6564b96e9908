"""A small classifier that has learned something, and batches to attack."""
from functools import cache

import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from mmengine.structures import PixelData
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample

SIZE, PATCH = 32, 8
PREPROCESSOR = dict(type='mmpretrain.ClsDataPreprocessor', mean=[120., 110., 100.],
                    std=[60., 50., 55.], to_rgb=True, num_classes=3)
BACKBONE = dict(type='FAN', arch=dict(
    patch_embed='conv', patch_size=PATCH, depths=(4,), embed_dims=(24,), num_heads=(2,)))


def images_of(count, seed):
    """Noise with one coloured patch somewhere, whose colour is the class."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(90, 166, (count, 3, SIZE, SIZE), generator=generator)
    labels = torch.randint(0, 3, (count,), generator=generator)
    corners = torch.randint(0, SIZE // PATCH, (count, 2), generator=generator) * PATCH
    for image, label, (y, x) in zip(images, labels, corners.tolist(), strict=True):
        image[label, y:y + PATCH, x:x + PATCH] += 60
    return images.to(torch.uint8), labels


def classifier_batch(count=32, seed=1, stacked=False):
    images, labels = images_of(count, seed)
    return dict(inputs=images if stacked else list(images),
                data_samples=[DataSample().set_gt_label(int(label)) for label in labels])


def build_classifier(backbone=None, **kwargs):
    return MODELS.build(dict(
        type='mmpretrain.ImageClassifier',
        backbone=backbone or dict(BACKBONE, out_type='cls_token'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=24),
        data_preprocessor=PREPROCESSOR, **kwargs))


@cache
def trained_classifier():
    torch.manual_seed(0)
    model = build_classifier().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(80):
        data = model.data_preprocessor(classifier_batch(64, seed=100 + step), True)
        loss = model.loss(data['inputs'], data['data_samples'])['loss']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def accuracy(model, data):
    """Share of correct predictions of the model's own test step."""
    results = model.test_step(data)
    return sum(int(r.pred_label == r.gt_label) for r in results) / len(results)


def segmentor(**kwargs):
    torch.manual_seed(0)
    return MODELS.build(dict(
        type='mmseg.EncoderDecoder', backbone=dict(BACKBONE, out_type='featmap', out_indices=(3,)),
        decode_head=dict(type='mmseg.FCNHead', in_channels=24, in_index=0, channels=8,
                         num_classes=4, num_convs=1, concat_input=False,
                         loss_decode=dict(type='mmseg.CrossEntropyLoss')),
        data_preprocessor=dict(type='mmseg.SegDataPreProcessor', mean=[120.] * 3, std=[60.] * 3,
                               bgr_to_rgb=True),
        test_cfg=ConfigDict(kwargs))).eval()


def segmentation_batch(height=32, width=48):
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, height, width), generator=generator).to(torch.uint8)
    sample = SegDataSample(metainfo=dict(ori_shape=(2 * height, 2 * width),
                                         img_shape=(height, width)))
    labels = torch.randint(0, 4, (1, 2 * height, 2 * width), generator=generator)
    labels[:, :8] = 255
    sample.gt_sem_seg = PixelData(data=labels)
    return dict(inputs=[image], data_samples=[sample])
