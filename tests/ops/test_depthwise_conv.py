"""The depthwise convolution with its own gradient equals F.conv2d."""
import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from mmrobust.ops import depthwise_conv2d


def make(batch, channels, height, width, kernel, dtype=torch.float64,
         memory_format=torch.contiguous_format):
    torch.manual_seed(0)
    x = torch.randn(batch, channels, height, width, dtype=dtype).to(memory_format=memory_format)
    sizes = (channels, 1, *kernel), (channels,)
    return [t.requires_grad_() for t in (x, *(torch.randn(size, dtype=dtype) for size in sizes))]


def plain(x, weight, bias):
    padding = [size // 2 for size in weight.shape[2:]]
    return F.conv2d(x, weight, bias, padding=padding, groups=len(weight))


def gradients(function, tensors):
    out = function(*tensors)
    return out, *torch.autograd.grad(out, tensors, torch.linspace(-1, 1, out.numel(),
                                                                  dtype=out.dtype).view_as(out))


def test_gradcheck():
    assert gradcheck(depthwise_conv2d, make(2, 2, 3, 4, (3, 5)))


@pytest.mark.parametrize('kernel', [(1, 1), (3, 3), (5, 5), (7, 7), (3, 9)])
@pytest.mark.parametrize('size', [(2, 3, 8, 11), (1, 1, 2, 1)])
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_against_conv2d(size, kernel, memory_format):
    tensors = make(*size, kernel, memory_format=memory_format)
    for a, b in zip(gradients(depthwise_conv2d, tensors), gradients(plain, tensors), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_float32_channels_last():
    tensors = make(2, 32, 24, 20, (7, 7), torch.float32, torch.channels_last)
    ours, theirs = gradients(depthwise_conv2d, tensors), gradients(plain, tensors)
    assert ours[0].is_contiguous(memory_format=torch.channels_last)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-6 * b.abs().max().item())


def test_frozen_tensors():
    x, weight, bias = make(1, 2, 5, 5, (7, 7))
    out = depthwise_conv2d(x.detach(), weight, bias).sum()
    torch.testing.assert_close(torch.autograd.grad(out, weight),
                               torch.autograd.grad(plain(x, weight, bias).sum(), weight))
    out = depthwise_conv2d(x, weight.detach(), bias.detach()).sum()
    torch.testing.assert_close(torch.autograd.grad(out, x),
                               torch.autograd.grad(plain(x, weight, bias).sum(), x))


def test_autocast():
    tensors = make(2, 8, 9, 7, (7, 7), torch.float32)
    with torch.autocast('cpu', torch.bfloat16):
        ours, theirs = gradients(depthwise_conv2d, tensors), gradients(plain, tensors)
    assert ours[0].dtype == theirs[0].dtype == torch.bfloat16
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=.05, atol=.05 * b.abs().max().item())


def test_compiles_without_graph_break():
    tensors = make(1, 4, 6, 6, (7, 7), torch.float32)
    compiled = torch.compile(depthwise_conv2d, fullgraph=True, backend='aot_eager')
    torch.testing.assert_close(compiled(*tensors), plain(*tensors))
