"""What every backbone of ours must satisfy, whichever library its class comes from."""
import copy

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from mmrobust.models import (
    AttentionDiversificationLoss,
    TokenAwareAvgPooling,
    listening,
)


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

    def attend(self, q, k, v, *, scale, logit_mask, layer):
        logits = scale * q @ k.transpose(-2, -1)
        self.observe((logits if logit_mask is None else logits * logit_mask).softmax(-1))

    def observe(self, attention, layer=None):
        self.maps.append(attention.mean(1))


def dense_loss(attention: Tensor, tau: float) -> Tensor:
    """The paper's formula on matrices (B, Nq, Nk), equations 1-3."""
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


def force_identity(model: nn.Module) -> None:
    """Make every pooling give all weight to the tokens themselves, exactly."""
    for module in model.modules():
        if isinstance(module, TokenAwareAvgPooling):
            nn.init.zeros_(module.predictor[1].weight)
            nn.init.zeros_(module.predictor[1].bias)
            # a bias that the convolution lacks: the softmax of (1e4, 0, ..., 0) is one-hot
            module.predictor[2].register_forward_hook(_first_branch)


def _first_branch(module, args, out):
    return out + 1e4 * torch.eye(out.shape[1])[0][:, None, None]


def check_equals_host(model: nn.Module, host: nn.Module, x: Tensor) -> None:
    """With pooling forced to identity and nobody listening, it is the host's model bit by bit,
    in outputs and gradients; a host's checkpoint lacks the pooling only."""
    missing, unexpected = model.load_state_dict(host.state_dict(), strict=False)
    assert not unexpected
    assert missing and all('.tap.' in key for key in missing)
    force_identity(model)
    for training in (False, True):
        host.train(training), model.train(training)
        torch.manual_seed(2)
        expected = outputs(host, x)
        torch.manual_seed(2)
        ours = outputs(model, x)
        assert len(ours) == len(expected)
        for a, b in zip(ours, expected, strict=True):
            assert torch.equal(a, b)
    sum(o.square().sum() for o in expected).backward()
    sum(o.square().sum() for o in ours).backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if '.tap.' not in n}
    for name, parameter in host.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad)


def check_listening_changes_nothing(model: nn.Module, x: Tensor) -> None:
    """Outputs are the same, up to rounding, while the diversification loss listens."""
    model.eval()
    with torch.no_grad():
        alone = outputs(model, x)
        with AttentionDiversificationLoss().listen():
            listened = outputs(model, x)
    for a, b in zip(alone, listened, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def check_refuses_attention_dropout(model: nn.Module, x: Tensor) -> None:
    """Attention dropout works alone, but not while the diversification loss listens."""
    outputs(model.train(), x)
    with pytest.raises(ValueError, match='attention dropout of 0.1 .* set the attn_drop'), \
            AttentionDiversificationLoss().listen():
        outputs(model, x)
    model.eval()
    with AttentionDiversificationLoss().listen() as records:
        outputs(model, x)
    assert records


def build_model(scope: str, cfg: dict) -> nn.Module:
    """Build a model as a config with that default scope does."""
    with DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(cfg)


def check_classifier_learns(model: nn.Module, x: Tensor) -> None:
    """A few steps on one batch reduce both losses of a classifier."""
    from mmpretrain.structures import DataSample
    samples = [DataSample().set_gt_label(i % 2) for i in range(len(x))]
    check_learns(model, x, samples, ('loss', 'loss_adl'))


def check_learns(model: nn.Module, x: Tensor, samples: list, names: tuple[str, ...]) -> None:
    """A few steps on one batch reduce the sum of the losses."""
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-3)
    history = []
    for _ in range(5):
        losses = {k: v for k, v in model.loss(x, samples).items() if 'loss' in k}
        assert set(names) <= losses.keys()
        total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append(total.item())
    assert history[-1] < history[0]
