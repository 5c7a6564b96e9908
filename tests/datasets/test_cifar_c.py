"""CIFAR-10-C and CIFAR-100-C on generated files of the published shape."""
import numpy as np
import pytest
from mmengine.registry import DATASETS

pytest.importorskip('mmpretrain')


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """A copy whose pixels tell severity (red), place in the test set (green) and 0 (blue)."""
    folder = tmp_path_factory.mktemp('CIFAR-10-C')
    images = np.lib.format.open_memmap(folder / 'fog.npy', 'w+', np.uint8, (50000, 32, 32, 3))
    images[..., 0] = np.repeat(np.arange(1, 6), 10000)[:, None, None]
    images[..., 1] = (np.arange(50000) % 10000 % 251)[:, None, None]
    images.flush()
    del images
    np.save(folder / 'labels.npy', np.tile(np.arange(10000) % 10, 5).astype(np.uint8))
    (folder / 'snow.npy').write_bytes((folder / 'fog.npy').read_bytes()[:100000])
    np.save(folder / 'frost.npy', np.zeros((10, 32, 32, 3), np.uint8))
    return folder


def build(root, kind='CIFAR10C', corruption='fog', severity=4, **kwargs):
    return DATASETS.build(dict(type=kind, data_root=str(root), corruption=corruption,
                               severity=severity, _scope_='mmpretrain',
                               **{'pipeline': [dict(type='PackInputs')], **kwargs}))


def test_cell(root):
    dataset = build(root)
    assert len(dataset) == 10000
    item = dataset[255]
    assert item['inputs'].shape == (3, 32, 32)
    assert item['inputs'][:, 5, 5].tolist() == [4, 4, 0]  # severity, 255 % 251, blue
    assert item['data_samples'].gt_label.item() == 5
    assert len(dataset.metainfo['classes']) == 10
    assert 'fog, severity 4' in repr(dataset)


@pytest.mark.parametrize('loading', ['LoadImageFromFile', 'mmpretrain.LoadImageFromFile'])
def test_bgr_in_the_place_of_files(root, loading):
    dataset = build(root, pipeline=[dict(type=loading), dict(type='PackInputs')])
    assert dataset[255]['inputs'][:, 0, 0].tolist() == [0, 4, 4]


@pytest.mark.parametrize(('arguments', 'error', 'message'), [
    (dict(corruption='rain'), FileNotFoundError, r'no file .*rain\.npy.* holds fog, frost, snow'),
    (dict(corruption='snow'), ValueError, r'cannot read .*snow\.npy \(.*\): fetch'),
    (dict(corruption='frost'), ValueError, r'frost\.npy holds uint8 of shape \(10, 32, 32, 3\)'),
    (dict(severity=0), ValueError, 'severity must be an integer from 1 to 5, got 0'),
])
def test_errors(root, arguments, error, message):
    with pytest.raises(error, match=message):
        build(root, **arguments)


def test_labels_of_the_other_data_set(root, tmp_path):
    (tmp_path / 'fog.npy').symlink_to(root / 'fog.npy')
    np.save(tmp_path / 'labels.npy', (np.arange(50000) % 100).astype(np.uint8))
    assert len(build(tmp_path, 'CIFAR100C').metainfo['classes']) == 100
    with pytest.raises(ValueError, match='labels up to 99, CIFAR10C has 10 classes'):
        build(tmp_path)
