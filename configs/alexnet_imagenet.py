# AlexNet with torchvision's weights: the baseline that ImageNet-P's mFR is relative to.
#
# The weights, by the names that this config uses:
#   python -c "import torch, torchvision; torch.save({'state_dict': {f'backbone.{k}': v for k, v in
#   torchvision.models.alexnet(weights='IMAGENET1K_V1').state_dict().items()}}, 'alexnet.pth')"
# Its flip probabilities, and with them the mFR of another model:
#   mmrobust benchmark alexnet_imagenet alexnet.pth imagenet-p
#   mmrobust benchmark CONFIG CHECKPOINT imagenet-p --benchmark-options \
#       baseline=work_dirs/alexnet_imagenet/imagenet-p/results.json
_base_ = './fan_b_imagenet.py'

model = dict(
    backbone=dict(_delete_=True, type='AlexNet', num_classes=1000),
    head=dict(
        _delete_=True,
        type='ClsHead',
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0)))
