"""What hangs on a module's call, such as LoRA and counters of operations, misses no layer."""
import pytest
import torch
from torch import nn

from mmrobust.models import FAN, RVT, AttentionDiversificationLoss

HYBRID = dict(embed_dims=(16, 24), depths=(1, 1), num_heads=(2, 2), stem_depths=(1, 1),
              stem_dims=(8, 16))
VIT = dict(embed_dims=(16,), depths=(2,), num_heads=(2,), patch_embed='conv', patch_size=16)
STAGES = dict(embed_dims=(12, 24), depths=(1, 1), num_heads=(2, 2))
TAP = dict(num_branches=2)


@pytest.mark.parametrize('build', [
    lambda: FAN(arch=HYBRID, tap=TAP),
    lambda: FAN(arch=HYBRID, tap=TAP, out_type='cls_token', with_cp=True),
    lambda: FAN(arch=VIT, patch_reasoning=True),
    lambda: RVT(arch=STAGES, tap=TAP, masked_blocks=1),
    lambda: RVT(arch=STAGES, mlp='linear', patch_reasoning=True, out_type='avg_featmap'),
], ids=['fan_hybrid', 'fan_class_token', 'fan_vit', 'rvt', 'rvt_linear'])
def test_every_trained_layer_is_called_in_a_training_step(build):
    model = build().train()
    layers = {name: module for name, module in model.named_modules()
              if isinstance(module, (nn.Linear, nn.Conv2d)) and module.weight.requires_grad}
    forward, backward = set(), set()
    for name, layer in layers.items():
        layer.register_forward_hook(lambda *_, name=name: forward.add(name))
        layer.register_full_backward_hook(lambda *_, name=name: backward.add(name))
    loss = AttentionDiversificationLoss(tau=1.)
    with loss.listen() as records:
        outputs = model(torch.randn(2, 3, 64, 96))
    (sum(out.square().mean() for out in outputs) + loss(records)).backward()
    assert layers.keys() == forward
    assert layers.keys() == backward


def test_what_is_added_to_a_layer_is_learned():
    """A low-rank update beside every layer, as peft makes it, gets a gradient."""
    model = FAN(arch=HYBRID, tap=TAP)
    model.requires_grad_(False)
    updates = {}
    for name, parent in list(model.named_modules()):
        if name.startswith('cls_attn_blocks'):
            continue  # maps do not depend on their layers
        for child_name, child in list(parent.named_children()):
            if isinstance(child, (nn.Linear, nn.Conv2d)):
                wrapped = Updated(child)
                setattr(parent, child_name, wrapped)
                updates[f'{name}.{child_name}'] = wrapped.update.weight
    sum(out.square().mean() for out in model(torch.randn(1, 3, 64, 64))).backward()
    assert len(updates) > 15
    assert all(weight.grad is not None and weight.grad.any() for weight in updates.values())


class Updated(nn.Module):

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        if isinstance(layer, nn.Linear):
            self.update = nn.Linear(layer.in_features, layer.out_features, bias=False)
        else:
            self.update = nn.Conv2d(
                layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride,
                layer.padding, groups=layer.groups, bias=False)

    @property
    def weight(self):
        return self.layer.weight

    def forward(self, x):
        return self.layer(x) + self.update(x)
