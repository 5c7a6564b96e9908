"""Our reader for torch before 2.5 reads what torch's newer one reads, and runs as little."""
import argparse
import collections
import io
import os
import pickle
import pickletools

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

from mmrobust.checkpoints import load_foreign
from mmrobust.checkpoints.loading import allowed_objects
from mmrobust.utils import compat, unpickling


@pytest.fixture(autouse=True)
def old_torch(monkeypatch):
    """This torch, with the reader that older ones get."""
    monkeypatch.setattr(compat, 'HAS_SAFE_GLOBALS', False)
    monkeypatch.setattr(unpickling, 'ALLOWED', {})
    monkeypatch.setattr(torch.serialization, '_weights_only_unpickler', unpickling.torch_reader)
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '0')


@pytest.mark.parametrize('legacy', [False, True])
def test_what_checkpoints_hold_is_read(tmp_path, legacy):
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).half()
    optimizer = torch.optim.AdamW(model.parameters())
    content = dict(
        state_dict=model.state_dict(), optimizer=optimizer.state_dict(), shape=torch.Size([2, 3]),
        args=argparse.Namespace(lr=.1), best=np.float64(84.3), curve=np.arange(3.),
        names=np.array(['a']), buffer=HistoryBuffer([1., 2.], [1, 1]), parts={1, 2}, z=1 + 2j,
        count=collections.Counter('aab'), weight=nn.Parameter(torch.ones(2)), dtype=torch.half,
        where=torch.device('cpu'), transposed=torch.rand(2, 3).t())
    torch.save(content, tmp_path / 'a.pth', _use_new_zipfile_serialization=not legacy)
    read = load_foreign(tmp_path / 'a.pth')
    assert read.keys() == content.keys()
    for name, value in content['state_dict'].items():
        assert torch.equal(read['state_dict'][name], value)
    assert read['buffer'].mean() == 1.5
    assert read['state_dict']._metadata == model.state_dict()._metadata
    np.testing.assert_array_equal(read['curve'], content['curve'])
    for name in ('args', 'best', 'shape', 'parts', 'z', 'count', 'dtype', 'where'):
        assert read[name] == content[name], name
    assert torch.equal(read['transposed'], content['transposed'])


class Call:
    """Pickled as a call of anything with anything."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize(('evil', 'name'), [
    (lambda made: Call(os.mkdir, made), r'(posix|nt)\.mkdir'),
    (lambda made: Call(eval, f'__import__("os").mkdir({made!r})'), r'eval'),
    (lambda made: Call(getattr, HistoryBuffer, '__init__'), r'getattr\(HistoryBuffer,__init__\)'),
    (lambda made: Call(torch.load, made), r'torch\.serialization\.load'),
])
def test_files_that_ask_for_more_are_refused(tmp_path, evil, name, legacy):
    made = str(tmp_path / 'made')
    torch.save(dict(w=torch.ones(1), x=evil(made)), tmp_path / 'a.pth',
               _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match=f'asks to run .*({name}).*--trust'):
        load_foreign(tmp_path / 'a.pth')
    assert not os.path.exists(made)


def read(stream, *allowed):
    with compat.safe_globals([*allowed_objects(), *allowed]):
        return unpickling.load(io.BytesIO(stream))


ORDERED = b'ccollections\nOrderedDict\n'
HISTORY = b'cmmengine.logging.history_buffer\nHistoryBuffer\n'
NAMESPACE = b'cargparse\nNamespace\n'


@pytest.mark.parametrize('stream', [
    b"cos\nsystem\n(S'true'\ntR.",                              # a global that is not listed
    b"(S'true'\nios\nsystem\n.",                                # the same by INST
    b'(' + ORDERED + b'o.',                                     # OBJ, even of a listed class
    b'\x80\x02\x82\x01.',                                       # the extension registry
    NAMESPACE + b'(tR' + b'(N}S\'a\'\nI1\nstb.',                 # slots, set one by one
    HISTORY + b'}S\'x\'\nI1\nsb.',                              # filling a class, not an instance
    b"ctorch._utils\n_rebuild_tensor_v2\n}S'x'\nI1\nsb.",       # filling a function
    HISTORY + b"S'x'\nI1\ns.",                                  # items of what is no container
    HISTORY + b'(I1\ne.',
    b"cbuiltins\ngetattr\n(" + HISTORY + b"S'mean'\ntR(tR.",     # calling what a call returned
    b'\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.',  # STACK_GLOBAL
    b'\x80\x04\x8c\x08builtins\x8c\x0cgetattr.eval\x93.',       # a dotted name
])
def test_steps_that_reach_further_are_closed(stream):
    pickletools.dis(stream, io.StringIO())  # a well-formed stream
    with pytest.raises(pickle.UnpicklingError):
        read(stream)


def test_instances_of_listed_classes_are_filled():
    assert read(pickle.dumps(argparse.Namespace(lr=.1), 2)).lr == .1
    with pytest.raises(pickle.UnpicklingError, match='test_unpickling.Plain was not an allowed'):
        read(pickle.dumps(Plain(), 2))
    assert read(pickle.dumps(Plain(), 2), Plain).x == 1


class Plain:
    def __init__(self):
        self.x = 1


def test_what_was_allowed_for_a_while_is_forgotten():
    with compat.safe_globals([Plain]):
        assert isinstance(unpickling.load(io.BytesIO(pickle.dumps(Plain(), 2))), Plain)
    assert torch.serialization._weights_only_unpickler is unpickling.torch_reader
    with pytest.raises(pickle.UnpicklingError, match='Plain was not'):
        unpickling.load(io.BytesIO(pickle.dumps(Plain(), 2)))
