"""The CamVid converter on small copies of the layouts it is distributed in."""
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image

from mmrobust.datasets.camvid import (
    COLOURS,
    IGNORE,
    INDICES,
    convert,
    find_frames,
    to_train_ids,
    usual_split,
)

REPOSITORY = Path(__file__).parents[2]
TOOL = REPOSITORY / 'tools/converters/camvid_to_cityscapes.py'
CONFIG = REPOSITORY / 'configs/_base_/datasets/camvid.py'


def _save(path, array, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).convert(mode or ('L' if array.ndim == 2 else 'RGB')).save(path)


@pytest.fixture
def segnet(tmp_path):
    """``train`` beside ``trainannot``: index images."""
    root = tmp_path / 'source'
    rng = np.random.default_rng(0)
    for split, name in (('train', '0001TP_006690'), ('val', '0016E5_07959'),
                        ('test', 'Seq05VD_f00000')):
        _save(root / split / f'{name}.png', rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        _save(root / f'{split}annot' / f'{name}.png',
              np.arange(192, dtype=np.uint8).reshape(12, 16) % 12)
    return root


@pytest.fixture
def stills(tmp_path):
    """``701_StillsRaw_full`` beside ``LabeledApproved_full``: colour images."""
    root = tmp_path / 'source'
    names = {name: colour for group in COLOURS.values() for name, colour in group.items()}
    labels = np.zeros((16, 64, 3), np.uint8)
    for column, colour in enumerate(names.values()):
        labels[:, 2 * column:2 * column + 2] = colour
    for name in ('0001TP_006690', '0001TP_008550', '0016E5_07959', '0006R0_f00930'):
        _save(root / '701_StillsRaw_full' / f'{name}.png', np.full((16, 64, 3), 99, np.uint8))
        _save(root / 'LabeledApproved_full' / f'{name}_L.png', labels)
    return root


def read(root, split, name):
    label = root / f'gtFine/{split}/camvid/{name}_gtFine_labelTrainIds.png'
    image = root / f'leftImg8bit/{split}/camvid/{name}_leftImg8bit.jpg'
    return cv2.imread(str(image)), np.asarray(Image.open(label))


def test_index_layout(segnet, tmp_path):
    assert convert(segnet, tmp_path / 'out', (16, 12)) == dict(train=1, val=1, test=1)
    image, labels = read(tmp_path / 'out', 'train', '0001TP_006690')
    assert image.shape == (12, 16, 3) and labels.dtype == np.uint8
    assert labels[0].tolist() == [10, 2, 5, 0, 1, 8, 7, 4, 13, 11, 18, 255, 10, 2, 5, 0]
    assert not list((tmp_path / 'out').rglob('*.part*'))


def test_palette_images_are_indices(segnet, tmp_path):
    path = segnet / 'trainannot/0001TP_006690.png'
    indices = np.asarray(Image.open(path))
    picture = Image.fromarray(indices, 'P')
    picture.putpalette([(7 * i) % 256 for i in range(768)])
    picture.save(path)
    convert(segnet, tmp_path / 'out', (16, 12))
    labels = read(tmp_path / 'out', 'train', '0001TP_006690')[1]
    assert (labels == np.array(INDICES)[indices]).all()


def test_colour_layout_and_resizing(stills, tmp_path):
    assert convert(stills, tmp_path / 'out', (32, 8)) == dict(train=2, val=1, test=1)
    image, labels = read(tmp_path / 'out', 'val', '0016E5_07959')
    assert image.shape == (8, 32, 3) and abs(int(image.mean()) - 99) <= 1
    expected = [train_id for train_id, group in COLOURS.items() for _ in group]
    assert labels[4].tolist() == expected
    assert len(expected) == 32


def test_folder_within_the_archive(segnet, tmp_path):
    (tmp_path / 'archive').mkdir()
    segnet.rename(tmp_path / 'archive/CamVid')
    assert len(find_frames(tmp_path / 'archive')) == 3


def test_usual_split_equals_the_published_one(shared):
    for split in ('train', 'val'):
        names = [path.name.removesuffix('_leftImg8bit.jpg')
                 for path in (shared / f'data/camvid/leftImg8bit/{split}/camvid').iterdir()]
        assert {usual_split(name) for name in names} == {split}
    assert usual_split('Seq05VD_f05100') == usual_split('0001TP_008550') == 'test'


def test_round_trip_of_the_real_data(shared, tmp_path):
    """The real frames, put back into the index layout, come out as they were."""
    name, folder = '0016E5_07959', shared / 'data/camvid'
    image, ids = read(folder, 'val', name)
    back = np.full(256, len(INDICES) - 1, np.uint8)
    back[list(INDICES)] = range(len(INDICES))
    _save(tmp_path / f'in/val/{name}.png', image[..., ::-1])
    _save(tmp_path / f'in/valannot/{name}.png', back[ids])
    convert(tmp_path / 'in', tmp_path / 'out', quality=100)
    image_again, ids_again = read(tmp_path / 'out', 'val', name)
    assert (ids_again == ids).all()
    assert np.abs(image_again.astype(int) - image).mean() < 1


@pytest.mark.parametrize(('labels', 'message'), [
    (np.array([[0, 12, 12]], np.uint8), 'index 12 and the like, in 2 pixels, are none of CamVid'),
    (np.array([[[1, 2, 3], [0, 0, 0]]], np.uint8), 'colour 1, 2, 3 and the like, in 1 pixel'),
])
def test_unknown_labels(labels, message):
    with pytest.raises(ValueError, match=message):
        to_train_ids(labels)


def test_stray_pixels_are_ignored():
    labels = np.full((20, 20), 3, np.uint8)
    labels[5, 5] = 77
    ids = to_train_ids(labels)
    assert ids[5, 5] == IGNORE and (ids == 0).sum() == 399


def test_void_is_ignored():
    assert to_train_ids(np.array([[11, 255]], np.uint8)).tolist() == [[IGNORE, IGNORE]]


def test_missing_parts(segnet, tmp_path):
    with pytest.raises(FileNotFoundError, match='no folder .*nowhere'):
        find_frames(tmp_path / 'nowhere')
    (tmp_path / 'other').mkdir()
    with pytest.raises(FileNotFoundError, match='other does not look like CamVid: expected'):
        find_frames(tmp_path / 'other')
    (segnet / 'valannot/0016E5_07959.png').unlink()
    with pytest.raises(FileNotFoundError, match='0016E5_07959.png has no label map: expected'):
        find_frames(segnet)


@pytest.mark.parametrize(('damage', 'message'), [
    (lambda root: _save(root / 'valannot/0016E5_07959.png', np.zeros((6, 8), np.uint8)),
     '0016E5_07959.png is 8 x 6 pixels, its image 16 x 12: they must have the same size'),
    (lambda root: (root / 'valannot/0016E5_07959.png').write_bytes(b'no image'),
     "label map .*0016E5_07959.png' cannot be decoded .*: fetch it again"),
    (lambda root: (root / 'val/0016E5_07959.png').write_bytes(b'no image'),
     "image .*0016E5_07959.png' cannot be decoded as an image: replace"),
    (lambda root: _save(root / 'valannot/0016E5_07959.png', np.full((12, 16), 19, np.uint8)),
     '0016E5_07959.png: index 19 and the like, in 192 pixels, are none of CamVid: it is another'),
])
def test_damaged_files(segnet, tmp_path, damage, message):
    damage(segnet)
    with pytest.raises(ValueError, match=message):
        convert(segnet, tmp_path / 'out', (16, 12))


@pytest.mark.parametrize(('arguments', 'message'), [
    (dict(size=(0, 360)), r'size must be two positive numbers of pixels, got \(0, 360\)'),
    (dict(quality=0), 'quality must lie in 1 to 100, got 0'),
])
def test_bad_arguments(segnet, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        convert(segnet, tmp_path / 'out', **arguments)


@pytest.mark.parametrize(('loader', 'length'), [('train_dataloader', 367), ('val_dataloader', 101)])
def test_configuration_on_the_real_data(shared, loader, length):
    pytest.importorskip('mmseg')
    config = Config.fromfile(CONFIG)[loader].dataset
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = DATASETS.build(dict(config, data_root=str(shared / 'data/camvid')))
    assert len(dataset) == length
    item = dataset[7]
    labels = item['data_samples'].gt_sem_seg.data
    height, width = item['inputs'].shape[1:]
    assert labels.shape[1:] == (height, width)
    if loader == 'train_dataloader':
        assert height <= 352 and width <= 480  # a crop, or less where the image was made smaller
    else:
        assert (height, width) == (360, 480)
    assert set(labels.unique().tolist()) <= set(INDICES)


def test_command_line(segnet, tmp_path):
    def call(source):
        command = [sys.executable, TOOL, source, tmp_path / 'out', '--size', '16', '12']
        return subprocess.run(command, capture_output=True, text=True)

    done = call(segnet)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith('out: 1 train, 1 val, 1 test\n')
    failed = call(tmp_path / 'nowhere')
    assert failed.returncode == 1
    assert 'no folder' in failed.stderr and 'Traceback' not in failed.stderr
