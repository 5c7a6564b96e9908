"""Activation checkpointing under torch.compile."""
import copy

import torch
from torch import nn

from mmrobust.models.layers import checkpoint


def test_compiled_it_changes_nothing():
    module = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.GELU())
    results = []
    for step in (lambda m, x: m(x), checkpoint, torch.compile(checkpoint, backend='aot_eager')):
        own = copy.deepcopy(module)
        x = torch.ones(2, 2, 4, 4).cumsum(-1).requires_grad_()
        step(own, x).square().sum().backward()
        results.append([x.grad, *(p.grad for p in own.parameters()), *own.buffers()])
    torch.testing.assert_close(results[1], results[0])
    torch.testing.assert_close(results[2], results[0])
