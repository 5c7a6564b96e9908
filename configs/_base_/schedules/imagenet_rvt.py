# RVT on ImageNet-1k: AdamW, 300 epochs of cosine after 5 of warm-up, then 10 at the lowest rate.
# 5e-4 for each 512 images of the total batch, scaled with the actual batch.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
    # no decay on vectors: biases and norms
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0))
auto_scale_lr = dict(base_batch_size=512, enable=True)

param_scheduler = [
    # from 1e-6 at the authors' batch of 2048
    dict(type='LinearLR', start_factor=1e-6 / 2e-3, by_epoch=True, begin=0, end=5),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=5, end=300),
]

train_cfg = dict(by_epoch=True, max_epochs=310, val_interval=1)
val_cfg = dict()
test_cfg = dict()

# a decay of 0.99996, buffers included
custom_hooks = [
    dict(type='EMAHook', momentum=4e-5, update_buffers=True, priority='ABOVE_NORMAL'),
]
