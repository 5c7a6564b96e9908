# FAN on ImageNet-1k: AdamW, 300 epochs of cosine after 5 of warm-up, then 10 at the lowest rate.
# 2e-3 at a total batch of 2048 is the papers' rate; it is scaled with the actual batch.
# The authors' longer warm-ups: 10 epochs for FAN-B and FAN-L Hybrid.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
    # no decay on vectors (biases, norms, layer scales) and the class token
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys={'cls_token': dict(decay_mult=0.0)}))
auto_scale_lr = dict(base_batch_size=2048, enable=True)

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6 / 2e-3, by_epoch=True, begin=0, end=5),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=5, end=300),
]

train_cfg = dict(by_epoch=True, max_epochs=310, val_interval=1)
val_cfg = dict()
test_cfg = dict()

# a decay of 0.99992, buffers included (0.99996 for FAN-B with TAP and ADL)
custom_hooks = [
    dict(type='EMAHook', momentum=8e-5, update_buffers=True, priority='ABOVE_NORMAL'),
]
