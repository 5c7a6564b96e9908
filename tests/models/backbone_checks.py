"""What every backbone of ours must satisfy, whichever library its class comes from."""
import copy

import torch
from torch import Tensor, nn

from mmrobust.models import AttentionDiversificationLoss, attend, listening
from mmrobust.models.layers import current_listener


def outputs(model: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    out = model(x)
    return tuple(out) if isinstance(out, list | tuple) else (out,)


def objective(model: nn.Module, x: Tensor) -> Tensor:
    """All outputs and the diversification loss, so that every parameter matters."""
    loss = AttentionDiversificationLoss(tau=1.)
    with loss.listen() as records:
        outs = outputs(model, x)
    return sum(out.float().square().mean() for out in outs) + loss(records)


def check_gradients(model: nn.Module, x: Tensor) -> None:
    """Every parameter that is to be trained gets a finite gradient that is not 0."""
    objective(model.train() or model, x).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f'{name} has no gradient'
            assert parameter.grad.isfinite().all(), f'{name} has a gradient that is not finite'
            assert parameter.grad.any(), f'{name} has gradient 0'
        else:
            assert parameter.grad is None


def check_checkpointing(plain: nn.Module, checkpointed: nn.Module, x: Tensor) -> None:
    """Recomputation changes neither outputs nor gradients nor running statistics."""
    checkpointed.load_state_dict(plain.state_dict())
    results = []
    for model in (plain, checkpointed):
        model.train()
        torch.manual_seed(1)  # drop path
        value = objective(model, x)
        value.backward()
        results.append((value.detach(), {n: p.grad for n, p in model.named_parameters()},
                        dict(model.named_buffers())))
    (value, grads, buffers), (other_value, other_grads, other_buffers) = results
    torch.testing.assert_close(value, other_value)
    for name, grad in grads.items():
        torch.testing.assert_close(other_grads[name], grad, msg=lambda m, n=name: f'{n}: {m}')
    for name, buffer in buffers.items():
        torch.testing.assert_close(other_buffers[name], buffer)


def check_autocast(model: nn.Module, x: Tensor) -> None:
    """Training works in bfloat16, with the loss in float32."""
    model.train()
    with torch.autocast('cpu', torch.bfloat16):
        value = objective(model, x)
    assert value.dtype == torch.float32 and value.isfinite()
    value.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def check_round_trip(model: nn.Module, fresh: nn.Module, x: Tensor) -> None:
    """The state dict holds everything that matters."""
    model.eval(), fresh.eval()
    fresh.load_state_dict(model.state_dict(), strict=True)
    with torch.no_grad():
        for ours, theirs in zip(outputs(model, x), outputs(fresh, x), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


class DenseListener:
    """Collects head-averaged attention matrices and lets the model compute as usual."""

    def __init__(self):
        self.maps = []

    def attend(self, q, k, v, *, scale, logit_mask, **kwargs):
        bias = kwargs.get('logit_bias')
        logits = scale * q @ k.transpose(-2, -1)
        if logit_mask is not None:
            logits = logits * logit_mask
        if bias is not None:
            logits = logits + bias
        self.maps.append(logits.softmax(-1).mean(1))
        inner = current_listener()
        assert inner is self
        with listening(None):
            return attend(q, k, v, scale=scale, logit_mask=logit_mask, **kwargs)

    def silent(self):
        return self


def dense_loss(attention: Tensor, tau: float) -> Tensor:
    """The paper's formula on matrices (B, Nq, Nk), equations 4-6."""
    kept = attention * (attention >= tau / attention.shape[-1])
    mean = kept.mean(1, keepdim=True)
    return torch.cosine_similarity(kept, mean, dim=-1).mean()


def check_diversification(model: nn.Module, x: Tensor, num_layers: int, tau: float = 1.) -> None:
    """The loss and its gradients are those of the dense formula."""
    model = model.double().train()
    x = x.double()
    other = copy.deepcopy(model)
    loss = AttentionDiversificationLoss(tau=tau)
    with loss.listen() as records:
        outputs(model, x)
    value = loss(records)
    assert len(records) == num_layers
    dense = DenseListener()
    with listening(dense):
        outputs(other, x)
    assert len(dense.maps) == num_layers
    expected = torch.stack([dense_loss(a, tau) for a in dense.maps]).mean()
    torch.testing.assert_close(value, expected)
    assert value > 0
    value.backward()
    expected.backward()
    compared = 0
    for (name, ours), theirs in zip(model.named_parameters(), other.parameters(), strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, msg=lambda m, n=name: f'{n}: {m}')
            compared += 1
    assert compared > num_layers
