"""ImageNet-A, -R, -Sketch, -C and subsets, on generated copies in the published layouts."""
import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS

from mmrobust.datasets.imagenet_classes import CLASS_SETS, WNIDS, class_indices

pytest.importorskip('mmpretrain')

A, R = CLASS_SETS['imagenet-a'], CLASS_SETS['imagenet-r']
PIPELINE = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]


def write_images(root, indices, count=1, suffix='.jpg'):
    """Class folders with images whose red channel tells the class."""
    for index in indices:
        folder = root / WNIDS[index]
        folder.mkdir(parents=True)
        image = np.full((8, 8, 3), (0, 0, index % 200), np.uint8)
        for i in range(count):
            assert cv2.imwrite(str(folder / f'0.{i}_x{suffix}'), image)
    return root


def build(kind, root, **kwargs):
    return DATASETS.build(dict(type=kind, data_root=str(root), pipeline=PIPELINE,
                               _scope_='mmpretrain', **kwargs))


def test_class_sets_match_the_reference(shared):
    for key in 'ar':
        text = (shared / 'reference' / f'imagenet_{key}_indices.txt').read_text()
        assert list(CLASS_SETS[f'imagenet-{key}']) == list(map(int, text.split()))


def test_class_sets():
    assert len(WNIDS) == 1000 and list(WNIDS) == sorted(set(WNIDS))
    assert len(A) == len(R) == 200 and len(set(A) & set(R)) == 86
    assert A[:6] == (6, 11, 13, 15, 17, 22) and R[:6] == (1, 2, 4, 6, 8, 9)
    assert WNIDS[A[0]] == 'n01498041'  # stingray
    with pytest.raises(ValueError, match="unknown set of ImageNet classes 'imagenet-b'"):
        class_indices('imagenet-b')


@pytest.mark.parametrize(('kind', 'indices'), [('ImageNetA', A), ('ImageNetR', R),
                                               ('ImageNetSketch', range(1000))])
def test_labels_are_imagenet_indices(tmp_path, kind, indices):
    chosen = [indices[-1], indices[0], indices[77]]
    write_images(tmp_path, chosen, count=2, suffix='.JPEG')
    (tmp_path / 'README.txt').write_text('as in the archive')
    (tmp_path / '.ipynb_checkpoints').mkdir()
    dataset = build(kind, tmp_path, complete=False)
    assert [dataset.get_data_info(i)['gt_label'] for i in range(6)] == sorted(chosen * 2)
    assert len(dataset.metainfo['classes']) == 1000
    item = dataset[0]
    assert item['inputs'].shape == (3, 8, 8)
    assert abs(int(item['inputs'][2, 0, 0]) - indices[0] % 200) <= 4  # BGR
    assert item['data_samples'].gt_label.item() == indices[0]


def test_complete_set(tmp_path):
    write_images(tmp_path, A)
    with pytest.raises(ValueError, match='holds 200 images, ImageNetA has 7500'):
        build('ImageNetA', tmp_path)
    assert len(build('ImageNetA', tmp_path, complete=False)) == 200
    with pytest.raises(ValueError, match='no classes of ImageNetR: n0.* more; point data_root'):
        build('ImageNetR', tmp_path)


def test_missing_folder_classes_and_images(tmp_path):
    with pytest.raises(FileNotFoundError, match='ImageNetA finds no folder .*imagenet-a/: it'):
        build('ImageNetA', tmp_path / 'imagenet-a')
    last = WNIDS[A[199]]
    write_images(tmp_path, A[:199])
    with pytest.raises(ValueError, match=f'199 of the 200 classes of ImageNetA, {last} are'):
        build('ImageNetA', tmp_path)
    (tmp_path / last).mkdir()
    with pytest.raises(ValueError, match=f'ImageNetA without an image .*: {last}; unpack'):
        build('ImageNetA', tmp_path)
    assert len(build('ImageNetA', tmp_path, complete=False)) == 199


def test_imagenet_c_cell(tmp_path):
    write_images(tmp_path / 'fog' / '3', [0, 999], suffix='.JPEG')
    dataset = build('ImageNetC', tmp_path, corruption='fog', severity=3, complete=False)
    assert [dataset.get_data_info(i)['gt_label'] for i in range(2)] == [0, 999]
    with pytest.raises(FileNotFoundError, match='no folder .*fog/4'):
        build('ImageNetC', tmp_path, corruption='fog', severity=4)
    with pytest.raises(ValueError, match='severity must be an integer from 1 to 5, got 6'):
        build('ImageNetC', tmp_path, corruption='fog', severity=6)
