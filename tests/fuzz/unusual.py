"""Files of other formats, links, pipes, and code of the user's that fails in every way.

What :mod:`materials` breaks is broken content; here the kind of file, or the way a run ends, is
not the usual one.
"""
import gzip
import os
import pickle
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from case import CONVERTERS, PLAIN, PRINT, TEST, TRAIN, Case

# a transform of the user's; each way of failing by its name
FAILING = '''
import os, signal, sys
import numpy as np
from mmseg.registry import TRANSFORMS

class TwoArguments(Exception):
    def __init__(self, first, second):
        super().__init__(first)

class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError

WAYS = dict(
    segmentation_fault=lambda: os.kill(os.getpid(), signal.SIGSEGV),
    killed=lambda: os.kill(os.getpid(), signal.SIGKILL), aborts=os.abort,
    exits=lambda: os._exit(3), leaves=lambda: sys.exit('cannot go on'),
    memory=MemoryError, allocation=lambda: np.zeros(1 << 45), two=lambda: TwoArguments(1, 2),
    unprintable=Unprintable, silent=ValueError,
    lines=lambda: ValueError('first' + chr(10) * 2 + 'second'),
    long=lambda: ValueError('x' * 100000), surrogate=lambda: ValueError(chr(0xdcdf)),
    stop=StopIteration, key=lambda: KeyError(('a', 3)), zero=lambda: 1 / 0,
    base=lambda: BaseException('odd'), descriptors=lambda: OSError(24, 'Too many open files'),
    permission=lambda: PermissionError(13, 'Permission denied', '/a/b.png'), nothing=lambda: None)

@TRANSFORMS.register_module()
class Fail:
    def __init__(self, way):
        self.way = way

    def __call__(self, results):
        error = WAYS[self.way]()
        if isinstance(error, BaseException):
            raise error
'''
ALONE = ('silent', 'lines', 'unprintable', 'surrogate', 'zero', 'key', 'leaves', 'base', 'memory')
IN_WORKERS = (*ALONE, 'segmentation_fault', 'killed', 'aborts', 'exits', 'allocation', 'two',
              'long', 'stop', 'descriptors', 'permission', 'nothing')

CONFIGS = {  # name -> content; '{small}' is the path of the small config
    'ring_a.py': b"_base_ = ['ring_b.py']\n", 'ring_b.py': b"_base_ = 'ring_c.py'\n",
    'ring_c.py': b"_base_ = 'ring_b.py'\n", 'ring.json': b'{"_base_": "ring_a.py"}',
    'lazy_ring_a.py': b'from mmengine.config import read_base\nwith read_base():\n'
                      b'    from .lazy_ring_b import *\n',
    'lazy_ring_b.py': b'from mmengine.config import read_base\nwith read_base():\n'
                      b'    from .lazy_ring_a import *\n',
    'lazy_nowhere.py': b'from mmengine.config import read_base\nwith read_base():\n'
                       b'    from .nowhere import *\n',
    'lazy_unknown.py': b'from no.such import Model\nmodel = dict(type=Model)\n',
    'base_broken.py': b"_base_ = 'syntax.py'\n", 'base_dict.py': b"_base_ = {'a': 1}\n",
    'utf16.py': 'x = 1\n'.encode('utf-16'), 'tabs.py': b'if True:\n\tx = 1\n        y = 2\n',
    'base_exception.py': b"raise BaseException('odd')\n",
    'backbone_list.py': b"_base_ = '{small}'\nmodel = dict(backbone=[1, 2])\n",
    'loader_text.py': b"_base_ = '{small}'\ntrain_dataloader = 'x'\ntest_dataloader = 'x'\n",
    'wrapper_text.py': b"_base_ = '{small}'\noptim_wrapper = 'SGD'\n",
    'evaluator_numbers.py': b"_base_ = '{small}'\ntest_evaluator = [5]\nval_evaluator = [5]\n",
    'step_number.py': b"_base_ = '{small}'\ntest_dataloader = dict(dataset=dict(pipeline=[5]))\n"
                      b'train_dataloader = dict(dataset=dict(pipeline=[5]))\n',
    'priority.py': b"_base_ = '{small}'\ncustom_hooks = [dict(type='EMAHook', priority='FOO')]\n",
    'type_is_dict.py': b"_base_ = '{small}'\nmodel = dict(type=dict)\n",
    'another_kind.py': b"_base_ = '{small}'\n"
                       b"model = dict(backbone=dict(_delete_=True, type='CrossEntropyLoss'))\n",
    'runner_unknown.py': b"_base_ = '{small}'\nrunner_type = 'Foo'\n",
    'tag.yaml': b'!!python/object:os.system [ls]', 'keys.yml': b'1: 2\n', 'null.json': b'null',
}


def make_unusual(folder: Path) -> None:
    """Write them; ``small.py``, ``small.pth`` and the data are there."""
    for name, content in CONFIGS.items():
        (folder / name).write_bytes(content.replace(b'{small}', str(folder / 'small.py').encode()))
    (folder / 'failing_transforms.py').write_text(FAILING)
    for way, workers in _ways():
        (folder / f'fails_{way}_{workers}.py').write_text(
            f'_base_ = {str(folder / "plain.py")!r}\n'
            "custom_imports = dict(imports=['mmrobust', 'failing_transforms'])\n"
            "steps = [dict(type='LoadImageFromFile'), "
            f'dict(type=\'Fail\', way={way!r}), dict(type=\'PackSegInputs\')]\n'
            f'loader = dict(num_workers={workers}, dataset=dict(pipeline=steps))\n'
            'test_dataloader = val_dataloader = train_dataloader = loader\n')
    os.mkfifo(folder / 'pipe.py')
    os.mkfifo(folder / 'pipe.pth')
    for name in ('loop.py', 'loop.pth', 'loop'):
        (folder / name).symlink_to(name)
    _write_weights(folder)
    _write_images(folder / 'images', folder / 'data' / 'leftImg8bit' / 'val')


def _write_weights(folder: Path) -> None:
    path = folder / 'small.pth'
    weights = torch.load(path, weights_only=True)['state_dict']
    for name, content in dict(
            ddp={f'module.{key}': value for key, value in weights.items()},
            compiled={f'_orig_mod.{key}': value for key, value in weights.items()},
            under_model=dict(model=weights),
            half=dict(state_dict={key: value.half() for key, value in weights.items()}),
            complex=dict(state_dict={key: value + 0j for key, value in weights.items()}),
            arrays=dict(state_dict={key: value.numpy() for key, value in weights.items()}),
            shapes=dict(state_dict={key: value[None] for key, value in weights.items()}),
            meta=dict(state_dict={key: value.to('meta') for key, value in weights.items()}),
            object=torch.nn.Linear(2, 2)).items():
        torch.save(content, folder / f'other_{name}.pth')
    torch.save(weights, folder / 'other_legacy.pth', _use_new_zipfile_serialization=False)
    np.savez(folder / 'arrays.npz', x=np.zeros(3))
    shutil.copy(folder / 'arrays.npz', folder / 'other_npz.pth')
    with (folder / 'other_npy.pth').open('wb') as file:
        np.save(file, np.zeros(3))
    (folder / 'other_pickle.pth').write_bytes(pickle.dumps({'a': 1}, protocol=5))
    with tarfile.open(folder / 'other_tar.pth', 'w') as archive:
        archive.add(folder / 'small.py', 'a.py')
    (folder / 'other_gzip.pth').write_bytes(gzip.compress(path.read_bytes(), 1))
    with zipfile.ZipFile(folder / 'other_zip.pth', 'w') as archive:
        archive.writestr('a.txt', 'x')
    (folder / 'other_pointer.pth').write_text('version https://git-lfs.github.com/spec/v1\n')
    (folder / 'other_zeros.pth').write_bytes(bytes(5000))
    shutil.copy(path, folder / 'other_suffix.safetensors')
    (folder / 'other_linked.pth').symlink_to('small.pth')


RIGHT_WEIGHTS = ('ddp', 'compiled', 'under_model', 'half', 'legacy', 'linked')
WRONG_WEIGHTS = ('complex', 'arrays', 'shapes', 'meta', 'object', 'npz', 'npy', 'pickle', 'tar',
                 'gzip', 'zip', 'pointer', 'zeros')
RIGHT_IMAGES = ('linked', 'capitals', 'hidden', 'bytes', 'lines', 'twice', 'deep')
WRONG_IMAGES = ('nowhere', 'pipe', 'same_name', 'up', 'small', 'folder', 'animation')


def _write_images(root: Path, source: Path) -> None:
    image = next(source.rglob('*.png'))
    for name in RIGHT_IMAGES + WRONG_IMAGES:
        (root / name).mkdir(parents=True)
        if name not in ('linked', 'twice', 'deep', 'small', 'animation'):
            shutil.copy(image, root / name / 'a.png')
    (root / 'linked' / 'city').symlink_to(source)
    for name in 'ab':
        (root / 'twice' / name).symlink_to(source)
    (root / 'up' / 'loop').symlink_to('..')
    (root / 'capitals' / 'a.png').rename(root / 'capitals' / 'A.PNG')
    (root / 'hidden' / '._a.png').write_text('of another system')
    (root / 'bytes' / 'a.png').rename(root / 'bytes' / 'a\udcff.png')
    (root / 'lines' / 'a.png').rename(root / 'lines' / 'a\nb.png')
    (root / 'nowhere' / 'b.png').symlink_to('b.png')
    os.mkfifo(root / 'pipe' / 'b.png')
    shutil.copy(image, root / 'same_name' / 'a.jpg')
    cv2.imwrite(str(root / 'deep' / 'a.png'), np.zeros((48, 64, 3), np.uint16))
    cv2.imwrite(str(root / 'small' / 'a.png'), np.zeros((8, 8, 3), np.uint8))
    (root / 'folder' / 'b.png').mkdir()
    (root / 'animation' / 'a.gif').write_bytes(b'GIF89a')


def _ways() -> Iterator[tuple[str, int]]:
    yield from ((way, 0) for way in ALONE)
    yield from ((way, 2) for way in IN_WORKERS)


def _find_transforms(scratch: Path) -> None:
    sys.path.insert(0, str(scratch.parent))


def unusual_cases(rng) -> Iterator[Case]:
    """Cases of everything above."""
    for name in (*CONFIGS, 'pipe.py', 'loop.py', 'loop'):
        yield Case('unusual config', TRAIN, (f'{{m}}/{name}', '--work-dir', 'w'))
        yield Case('unusual config', PRINT, (f'{{m}}/{name}',), None)
    files = [f'{{m}}/other_{name}.pth' for name in RIGHT_WEIGHTS + WRONG_WEIGHTS]
    files += ['{m}/pipe.pth', '{m}/loop.pth', '{m}/loop', '{m}/arrays.npz', '/dev/zero',
              '{m}/other_suffix.safetensors', '/proc/self/mem']
    for path in files:
        right = path.removeprefix('{m}/other_').removesuffix('.pth') in RIGHT_WEIGHTS
        yield Case('other weights', TEST, ('{m}/small.py', path, '--work-dir', 'w'), not right)
        yield Case('other weights', CONVERTERS['convert_official'], (path, 'out.pth'))
        yield Case('other weights', TRAIN, ('{m}/small.py', '--work-dir', 'w', '--resume', path))
    for name in RIGHT_IMAGES + WRONG_IMAGES:
        yield Case('unusual images', CONVERTERS['corrupt_dataset'], (
            f'{{m}}/images/{name}', 'out', '--corruptions', 'brightness', '--severities', '1',
            '--workers', rng.choice('12')), name in WRONG_IMAGES)
    for way, workers in _ways():
        config = f'{{m}}/fails_{way}_{workers}.py'
        for tool, arguments in (
                (TRAIN, (config,)), (TEST, (config, PLAIN[1])),
                (TEST, (config, PLAIN[1], '--benchmark', 'fog', '--severities', '1'))):
            yield Case('failing data', tool, (*arguments, '--work-dir', 'w'),
                       None if way in ('nothing', 'leaves') else True, before=_find_transforms)
