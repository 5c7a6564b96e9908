"""Weights that would give wrong numbers are refused, and those under other names found."""
from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseModel, BaseModule, BaseTTAModel, ExponentialMovingAverage
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, CheckpointLoader
from torch import nn

from mmrobust.checkpoints import guard_loading, load_weights
from mmrobust.checkpoints.weights import tidy


class Model(BaseModel):
    """A small model with what models have: statistics, constants, two heads."""

    def __init__(self, neck=False, auxiliary=False):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.backbone.register_buffer('index', torch.arange(3))
        self.backbone.register_buffer('passing', torch.ones(1), persistent=False)
        self.head = nn.Linear(4, 2)
        if neck:
            self.neck = nn.Linear(4, 4)
        if auxiliary:
            self.auxiliary_head = nn.Linear(4, 2)

    def forward(self, inputs, mode='tensor', **kwargs):
        return self.head(self.backbone(inputs).mean((2, 3)))

    def test_step(self, data):
        return []


class Average(BaseTTAModel):
    def merge_preds(self, samples):
        return samples


@pytest.fixture
def trained():
    model = Model()
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.uniform_(.5, 1)
    return model.state_dict()


def same(model, weights):
    return all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def prefixed(weights, prefix):
    return OrderedDict((prefix + key, value) for key, value in weights.items())


def inside(weights, part, wrapper):
    return OrderedDict((key.replace(f'{part}.', f'{part}.{wrapper}', 1), value)
                       for key, value in weights.items())


ELSEWHERE = {
    'bare': lambda w: w,
    'state_dict': lambda w: dict(state_dict=w, meta={}),
    'compiled': lambda w: dict(state_dict=prefixed(w, '_orig_mod.')),
    'parallel': lambda w: dict(state_dict=prefixed(w, 'module.')),
    'compiled and parallel': lambda w: prefixed(w, 'module._orig_mod.'),
    'parallel and compiled': lambda w: prefixed(w, '_orig_mod.module.'),
    'compiled part': lambda w: dict(state_dict=inside(w, 'backbone', '_orig_mod.')),
    'parallel part': lambda w: dict(state_dict=inside(w, 'backbone', 'module.')),
    'sharded part': lambda w: inside(w, 'head', '_fsdp_wrapped_module.'),
    'lightning': lambda w: dict(state_dict=prefixed(w, 'model.'), epoch=3),
    'a member': lambda w: dict(state_dict=prefixed(w, 'net._orig_mod.')),
    **{name: lambda w, name=name: {name: w, 'epoch': 3, 'optimizer': {'state': {}}}
       for name in ('model', 'model_state_dict', 'params', 'state_dict_ema', 'ema', 'module')},
    'deeper': lambda w: dict(model=dict(state_dict=w)),
    'beside an empty one': lambda w: dict(state_dict={}, model=w),
    'own before average': lambda w: dict(state_dict_ema={k: v * 2 for k, v in w.items()}, model=w),
}


@pytest.mark.parametrize('place', ELSEWHERE)
def test_weights_are_found_under_any_name(trained, place):
    model = Model()
    load_weights(model, tidy(ELSEWHERE[place](trained), 'x'))
    assert same(model, trained)


def test_wrapped_models_take_plain_weights(trained):
    for wrapped in (Average(Model()), nn.DataParallel(Model())):
        load_weights(wrapped, tidy(dict(state_dict=trained), 'x'))
        assert same(wrapped.module, trained)
    model = Model()
    model.backbone[0] = torch.compile(model.backbone[0], backend='eager')
    load_weights(model, tidy(trained, 'x'))
    assert torch.equal(model.backbone[0].weight, trained['backbone.0.weight'])


def test_an_average_of_mmengine_is_what_is_loaded_and_can_be_swapped(trained):
    own = ExponentialMovingAverage(Model())
    checkpoint = tidy(dict(state_dict=prefixed(trained, '_orig_mod.'),
                           ema_state_dict=own.state_dict()), 'x')
    assert set(checkpoint['ema_state_dict']) == set(own.state_dict())
    model = Model()
    load_weights(model, checkpoint)
    assert same(model, trained)


@pytest.mark.parametrize(('content', 'message'), [
    ([torch.ones(2)], 'x holds a list, not a dictionary of weights'),
    (3, 'x holds a int'),
    ({}, 'x has no weights .*it holds nothing'),
    (dict(optimizer={}, epoch=3), 'it holds optimizer, epoch'),
    (dict(state_dict={3: torch.ones(1)}), "'state_dict' of x has a weight with the name 3"),
    ({'a._orig_mod.w': torch.ones(1), 'a.w': torch.zeros(1)}, "two different weights 'a.w'"),
])
def test_no_weights(content, message):
    with pytest.raises(ValueError, match=message):
        tidy(content, 'x')


@pytest.mark.parametrize('name', ['backbone.0.weight', 'backbone.1.running_mean', 'head.bias'])
@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_values_that_are_not_finite(trained, name, value, dtype):
    trained = {key: weight.to(dtype) if weight.is_floating_point() else weight
               for key, weight in trained.items()}
    trained[name].view(-1)[-1] = value
    problem = 'NaN' if value != value else 'infinite'
    for load in (lambda: tidy(dict(state_dict=trained), 'x'),
                 lambda: load_weights(Model(), trained, partial=True, where='x')):
        with pytest.raises(ValueError, match=rf"x has unusable values in 1 of 10 .*'{name}' "
                                             rf'\({problem}\) first.*take an earlier one'):
            load()


def test_a_variance_is_not_negative_but_a_mask_may_be_infinite(trained):
    tidy({**trained, 'text.attn_mask': torch.full((2, 2), -torch.inf),
          'filter.running_var': torch.ones(2, dtype=torch.complex64)}, 'x')
    trained['backbone.1.running_var'][1] = -1e-3
    with pytest.raises(ValueError, match='running_var.*negative variance'):
        tidy(trained, 'x')


def test_statistics_are_checked_like_parameters(trained):
    for name in ('backbone.1.running_mean', 'head.bias'):
        rest = {key: value for key, value in trained.items() if key != name}
        with pytest.raises(ValueError, match=f"another architecture: 1 of 8 .*'{name}' first"):
            load_weights(Model(), rest)
        with pytest.raises(ValueError, match=f"another architecture: 1 of 8 .*'{name}' first"):
            load_weights(Model(), {**trained, name: torch.ones(7)})
    # counters and index tables follow from the config, what is not kept is not missed
    for name in ('backbone.1.num_batches_tracked', 'backbone.index'):
        trained.pop(name)
    load_weights(Model(), trained)


def test_what_is_too_much_is_refused_unless_only_training_uses_it(trained):
    model, weights = Model(), Model(auxiliary=True).state_dict()
    load_weights(model, {**weights, 'head.loss_module.w': torch.ones(1),
                         'alignment.corruption.fc.weight': torch.ones(1)})
    with pytest.raises(ValueError, match=r"no place for 2 of its 12 weights, 'neck.weight' first"
                                         r".*unused=\['neck'\]"):
        load_weights(model, Model(neck=True).state_dict())
    load_weights(model, Model(neck=True).state_dict(), unused=['neck'])
    with pytest.raises(ValueError, match='no place for 1 .*backbone.tap.weight'):
        load_weights(model, {**trained, 'backbone.tap.weight': torch.ones(1)})


def test_quantised_weights_are_refused(trained):
    trained['head.weight'] = (trained['head.weight'] * 100).to(torch.int8)
    with pytest.raises(ValueError, match="'head.weight' of x is of torch.int8, the model's of"):
        load_weights(Model(), trained, where='x')


def test_half_precision_is_taken(trained):
    model = Model()
    load_weights(model, {key: value.half() if value.is_floating_point() else value
                         for key, value in trained.items()})
    assert torch.allclose(model.head.weight, trained['head.weight'], atol=1e-3)


def test_fine_tuning_takes_what_fits_as_long_as_anything_does(trained):
    model = Model()
    load_weights(model, {**trained, 'head.weight': torch.ones(9, 4), 'neck.weight': torch.ones(1)},
                 partial=True)
    assert torch.equal(model.backbone[0].weight, trained['backbone.0.weight'])
    with pytest.raises(ValueError, match='another architecture: 8 of 8'):
        load_weights(model, {'vit.weight': torch.ones(1)}, partial=True)


class Renaming(nn.Module):
    """Takes the names of an older version, as some of the host libraries' models do."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(2)
        self._register_load_state_dict_pre_hook(self._rename)

    @staticmethod
    def _rename(state_dict, prefix, *args):
        for key in [key for key in state_dict if key.startswith(f'{prefix}ln1.')]:
            state_dict[key.replace('ln1.', 'norm.')] = state_dict.pop(key)


def test_models_that_rename_while_loading_are_asked(trained):
    model = nn.Sequential(Renaming())
    load_weights(model, {'0.ln1.weight': torch.zeros(2), '0.ln1.bias': torch.ones(2)})
    assert model[0].norm.bias.tolist() == [1, 1] and model[0].norm.weight.tolist() == [0, 0]


def test_every_loader_of_mmengine_is_guarded(monkeypatch):
    from mmrobust.checkpoints import guard_loading

    monkeypatch.setattr(CheckpointLoader, '_schemes', {
        '': None, 'memory://': lambda filename, map_location: {'w': torch.tensor(torch.nan)}})
    with guard_loading(), guard_loading():
        with pytest.raises(ValueError, match="'memory://a' has unusable values"):
            CheckpointLoader.load_checkpoint('memory://a', logger='silent')
    assert CheckpointLoader.load_checkpoint('memory://a', logger='silent')['w'].isnan()


@pytest.mark.parametrize('wrap', [nn.Module.eval, nn.DataParallel])
def test_the_hook_gives_other_hooks_the_names_within_wrappers(trained, wrap):
    from types import SimpleNamespace

    from mmengine.registry import HOOKS, MODEL_WRAPPERS

    assert nn.DataParallel in MODEL_WRAPPERS.module_dict.values()
    model, checkpoint = Model(), dict(state_dict=prefixed(trained, '_orig_mod.'))
    hook = HOOKS.build(dict(type='CheckWeightsHook'))
    hook.after_load_checkpoint(SimpleNamespace(
        model=wrap(model), _load_from='x.pth', _resume=False, _train_loop=None), checkpoint)
    assert same(model, trained) and set(checkpoint['state_dict']) == set(trained)


@pytest.mark.parametrize(('content', 'message'), [
    (dict(), "'x.pth' holds weights only"),
    (dict(meta={}, message_hub={}, ema_state_dict={'module.w': torch.tensor(torch.nan)}),
     'x.pth. has unusable values in 1 of 1'),
    (dict(meta={}, message_hub={}, optimizer=dict(state={
        0: dict(step=3, exp_avg=torch.tensor([torch.inf]))}, param_groups=[])),
     "the optimizer state of 'x.pth' has unusable values .*'exp_avg' .infinite"),
    (dict(meta={}, message_hub={}, optimizer=dict(generator=dict(state={
        0: dict(exp_avg=torch.tensor([torch.nan]))}))), "optimizer state of .*'exp_avg' .NaN"),
])
def test_a_run_goes_on_only_from_a_whole_sound_checkpoint(trained, content, message):
    from types import SimpleNamespace

    from mmengine.registry import HOOKS

    hook = HOOKS.build(dict(type='CheckWeightsHook'))
    with pytest.raises(ValueError, match=message):
        hook.after_load_checkpoint(SimpleNamespace(
            model=Model(), _load_from='x.pth', _resume=True), dict(content, state_dict=trained))


class Loop(BaseLoop):
    def run(self):
        pass


@pytest.mark.parametrize(('loop', 'resume', 'accepted'), [
    (Loop(None, []), False, True), (Loop(None, []), True, False),
    (dict(max_epochs=1), False, False), (None, False, False)])
def test_only_a_training_that_begins_takes_a_part(trained, loop, resume, accepted):
    """The config that a training left in its work dir says partial=True in a test, too."""
    hook = HOOKS.build(dict(type='CheckWeightsHook', partial=True))
    runner = SimpleNamespace(model=Model(), _load_from='x.pth', _resume=resume, _train_loop=loop)
    name = 'backbone.0.weight'
    checkpoint = dict(state_dict={name: trained[name]}, meta={}, message_hub={})
    if accepted:
        hook.after_load_checkpoint(runner, checkpoint)
        assert torch.equal(runner.model.state_dict()[name], trained[name])
        return
    with pytest.raises(ValueError, match='is of another architecture'):
        hook.after_load_checkpoint(runner, checkpoint)


def initialised(folder, weights, prefix=None):
    """A model whose first part was initialised from a file, as a training does."""
    torch.save(dict(state_dict=weights), folder / 'init.pth')
    model = Model()
    model.part = Part(init_cfg=dict(type='Pretrained', checkpoint=str(folder / 'init.pth'),
                                    prefix=prefix))
    with guard_loading():
        model.part.init_weights()
    return SimpleNamespace(model=model, _load_from=None, _resume=False)


class Part(BaseModule):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = nn.Conv2d(3, 4, 1)


def test_a_part_that_got_nothing_of_its_checkpoint_is_noticed(tmp_path):
    hook, part = HOOKS.build(dict(type='CheckWeightsHook')), Part().state_dict()
    hook.before_train(initialised(tmp_path, part))
    whole = {f'backbone.{name}': value for name, value in part.items()}
    hook.before_train(initialised(tmp_path, whole, 'backbone.'))
    runner = initialised(tmp_path, whole)
    with pytest.raises(ValueError, match=r"nothing of '.*init.pth' fits part \(Part\).*prefix="):
        hook.before_train(runner)
    runner._load_from = 'x.pth'
    hook.before_train(runner)
