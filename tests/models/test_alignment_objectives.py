"""What the corruption model ascends on, and that the model's own gradients do not care."""
import os
import subprocess
import sys

import pytest
import torch
from mmengine.registry import MODELS
from test_robust_model_afat import FAN, RVT, VIT, batch, classifier, freeze_statistics, gradients

from mmrobust.models.alignment.joint_pass import couples_images

OBJECTIVES = ('alignment', 'total', 'cross_entropy')


def theta(grads):
    return {name: grad for name, grad in grads.items() if name.startswith('alignment.')}


def own(grads):
    return {name: grad for name, grad in grads.items() if not name.startswith('alignment.')}


def losses_of(model, data, seed=3):
    torch.manual_seed(seed)
    return model.loss(*data)


def alignment_gradients(model, data, seed=3):
    """Those of the alignment loss alone, by a plain backward of nothing else."""
    torch.manual_seed(seed)
    corrupted = model.alignment.corruption(data[0], torch.tensor(-1.), torch.tensor(1.))
    tokens = []
    hooks = [block.register_forward_hook(lambda *args: tokens.append(args[2]))
             for block in model.alignment.aligned_blocks(model.backbone)]
    model.backbone(torch.cat([corrupted, data[0]]))
    for hook in hooks:
        hook.remove()
    loss = model.alignment.loss_weight * model.alignment.distance(tokens)
    weights = dict(model.alignment.named_parameters(prefix='alignment'))
    return dict(zip(weights, torch.autograd.grad(loss, weights.values()), strict=True))


def assert_ascends(grads, expected, factor=1.):
    for name, grad in expected.items():
        assert grad.any()
        difference = (grads[name] / factor + grad).norm() / grad.norm()
        assert difference < 1e-6, (name, difference)


@pytest.mark.parametrize('with_cp', [False, True], ids=['plain', 'checkpointing'])
@pytest.mark.parametrize('backbone', [FAN, RVT], ids=['FAN', 'RVT'])
@pytest.mark.parametrize('norm', ['mse', 'squared_norm'])
def test_ascends_on_the_alignment_alone(backbone, norm, with_cp):
    """Where clean and corrupted images share batch statistics."""
    backbone = dict(backbone, with_cp=with_cp)
    model = classifier(backbone, dict(norm=norm)).train()
    assert couples_images(model)
    data = batch()
    grads = gradients(model, losses_of(model, data))
    expected = alignment_gradients(classifier(backbone, dict(norm=norm)).train(), data)
    assert_ascends(theta(grads), expected)
    # it is not so by itself
    total = classifier(backbone, dict(norm=norm, objective='total')).train()
    for name, grad in theta(gradients(total, losses_of(total, data))).items():
        assert (grad + expected[name]).norm() > .01 * expected[name].norm()


def test_without_batch_statistics_it_takes_no_pass_of_its_own(monkeypatch):
    for model in (classifier(VIT).train(), freeze_statistics(classifier())):
        assert not couples_images(model)
        data = batch()
        expected = alignment_gradients(model, data)
        with monkeypatch.context() as patch:
            patch.setattr(torch.autograd, 'grad', None)
            losses = losses_of(model, data)
        assert_ascends(theta(gradients(model, losses)), expected)


@pytest.mark.parametrize('backbone', [FAN, RVT, VIT], ids=lambda b: b['type'])
def test_the_models_own_gradients_are_those_of_the_total_loss(backbone):
    results = []
    for objective in OBJECTIVES:
        model = classifier(dict(backbone, drop_path_rate=.3), dict(objective=objective)).train()
        losses = losses_of(model, batch())
        results.append((losses['loss'] + losses['loss_alignment'], own(gradients(model, losses))))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=0, atol=0)


@pytest.mark.parametrize('objective', ['alignment', 'total'])
@pytest.mark.parametrize('weight', [5e-3, 1e5], ids=['', 'clipped'])
def test_loss_scale_and_accumulation(objective, weight):
    """The gradient of a score is clipped to 1 before either is applied."""
    model = classifier(alignment=dict(objective=objective, loss_weight=weight)).train()
    data = batch()
    plain = theta(gradients(model, losses_of(model, data)))
    total, _ = model.parse_losses(losses_of(model, data))
    model.zero_grad()
    (total * 1024 / 4).backward()
    assert_ascends({n: -p.grad for n, p in model.named_parameters()}, plain, factor=256)
    if objective == 'alignment':
        assert_ascends(plain, alignment_gradients(model, data))


def test_accumulation():
    """Two batches give the mean of their gradients."""
    model = classifier().train()
    batches = [tuple(part[half] for part in batch(8)) for half in (slice(4), slice(4, None))]
    expected = [alignment_gradients(model, data) for data in batches]
    model.zero_grad()
    for data in batches:
        total, _ = model.parse_losses(losses_of(model, data))
        (total / 2).backward()
    assert_ascends({n: p.grad for n, p in model.named_parameters()},
                   {n: (g + expected[1][n]) / 2 for n, g in expected[0].items()})


def test_autocast():
    model, reference = classifier().train(), classifier().train()
    with torch.autocast('cpu', torch.bfloat16):
        losses = losses_of(model, batch())
    grads = theta(gradients(model, losses))
    for name, grad in alignment_gradients(reference, batch()).items():
        assert torch.cosine_similarity(grads[name].flatten(), -grad.flatten(), 0) > .97


def test_nothing_to_learn(monkeypatch):
    """No pass of its own for random patches, a frozen corruption model, or without gradients."""
    random = classifier(alignment=dict(corruption=dict(type='RandomPatchCorruption')))
    frozen = classifier(alignment=dict(objective='cross_entropy'))
    frozen.alignment.requires_grad_(False)
    monkeypatch.setattr(torch.autograd, 'grad', None)
    for model in (random, frozen):
        losses = losses_of(model.train(), batch())
        assert set(losses) == {'loss', 'loss_alignment'}
        assert losses['loss_alignment'] > 0
    with torch.no_grad():
        assert losses_of(classifier().train(), batch())['loss_alignment'] > 0


def test_reentrant_checkpointing_is_refused():
    resnet = dict(type='mmpretrain.ResNet', depth=18, with_cp=True)
    model = classifier(resnet, dict(blocks=r'layer\d\.\d'),
                       neck=dict(type='mmpretrain.GlobalAveragePooling')).train()
    model.head.fc = torch.nn.Linear(512, 3)
    with pytest.raises(ValueError, match="with_cp=False.*objective='total'"):
        model.loss(*batch())


def test_compiled_graphs_may_go_backward_twice():
    config = pytest.importorskip('torch._functorch.config')
    if not hasattr(config, 'donated_buffer'):
        pytest.skip('graphs of this torch always may')
    for objective in OBJECTIVES:
        with config.patch(donated_buffer=True):
            classifier(alignment=dict(objective=objective))
            assert config.donated_buffer == (objective == 'total')


@pytest.mark.parametrize(('old', 'new'), [('alignment', 'total'),
                                          ('cross_entropy', 'cross_entropy')])
def test_old_name(old, new):
    with pytest.warns(FutureWarning, match=f"objective='{new}'"):
        assert classifier(alignment=dict(adversary=old)).alignment.objective == new


def test_ratio_0_corrupts_nothing():
    model = classifier(alignment=dict(corruption=dict(ratio=0.))).train()
    images, samples = batch()
    low, high = torch.tensor(-1.), torch.tensor(1.)
    assert torch.equal(model.alignment.corruption(images, low, high), images)
    losses = model.loss(images, samples)
    assert losses['loss_alignment'] == 0
    gradients(model, losses)
    random = MODELS.build(dict(type='RandomPatchCorruption', ratio=0, patch_size=8))
    assert torch.equal(random(images, low, high), images)


WORKER = """
import os, sys, torch, torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
sys.path.insert(0, sys.argv[1])
from test_alignment_objectives import *
dist.init_process_group('gloo')
rank = dist.get_rank()
model = classifier().train()
ddp = MMDistributedDataParallel(model, device_ids=None)
images, samples = batch(8)
half = slice(4 * rank, 4 * rank + 4)
torch.manual_seed(3)
losses = ddp(images[half], samples[half], mode='loss')
gradients(model, losses)
if rank == 0:
    torch.save({name: p.grad for name, p in model.named_parameters()}, sys.argv[2])
dist.barrier()
os._exit(0)  # threads of the group, which ddp holds, may abort an interpreter that ends
"""


def test_two_processes(tmp_path, repo):
    script, result = tmp_path / 'worker.py', tmp_path / 'gradients.pth'
    script.write_text(WORKER)
    done = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2',
         str(script), str(repo / 'tests/models'), str(result)],
        cwd=repo, capture_output=True, text=True, timeout=900,
        env={**os.environ, 'PYTHONPATH': str(repo), 'OMP_NUM_THREADS': '1'})
    assert done.returncode == 0, done.stderr[-2000:]
    images, samples = batch(8)
    expected = [alignment_gradients(classifier().train(), (images[half], samples[half]))
                for half in (slice(4), slice(4, None))]
    assert_ascends(torch.load(result), {
        name: (grad + expected[1][name]) / 2 for name, grad in expected[0].items()})


def test_old_and_new_name_together_are_refused():
    with pytest.raises(ValueError, match="adversary='alignment', its old name"):
        classifier(alignment=dict(adversary='alignment', objective='alignment'))
