"""ImageNet-P on generated videos."""
import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS, FUNCTIONS

from mmrobust.datasets.imagenet_classes import WNIDS

pytest.importorskip('mmpretrain')

PIPELINE = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]  # the first is left out


def write_video(path, num_frames):
    """Frames that grow brighter one by one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 10, (64, 48))
    assert writer.isOpened()
    for i in range(num_frames):
        writer.write(np.full((48, 64, 3), 6 * i, np.uint8))
    writer.release()


def build(root, **kwargs):
    return DATASETS.build(dict(type='ImageNetP', data_root=str(root), pipeline=PIPELINE,
                               complete=False, _scope_='mmpretrain', **kwargs))


def test_sequences(tmp_path):
    for index in (3, 500):
        write_video(tmp_path / 'tilt' / WNIDS[index] / 'ILSVRC2012_val_0001.mp4', 31)
    dataset = build(tmp_path, perturbation='tilt', difficulty=2)
    assert len(dataset) == 2
    assert dataset.metainfo['stride'] == 2 and not dataset.metainfo['noise']
    assert len(dataset.metainfo['classes']) == 1000
    sequence = dataset[1]
    assert len(sequence) == 31
    brightness = [frame['inputs'].float().mean().item() for frame in sequence]
    assert np.allclose(brightness, 6 * np.arange(31), atol=4)
    assert {frame['data_samples'].gt_label.item() for frame in sequence} == {500}

    collate = FUNCTIONS.get('mmrobust.datasets.imagenet_p.collate_sequences')
    batch = collate([dataset[0], sequence])
    assert batch['inputs'].shape == (62, 3, 48, 64)
    assert [s.sample_idx for s in batch['data_samples']] == [0] * 31 + [1] * 31


def test_noise_of_higher_difficulty_has_its_own_folder(tmp_path):
    write_video(tmp_path / 'shot_noise_3' / WNIDS[0] / 'a.mp4', 31)
    meta = build(tmp_path, perturbation='shot_noise', difficulty=3).metainfo
    assert meta['noise'] and meta['stride'] == 1
    with pytest.raises(FileNotFoundError, match='no folder .*shot_noise: it should'):
        build(tmp_path, perturbation='shot_noise')


def test_translate_is_longer(tmp_path):
    write_video(tmp_path / 'translate' / WNIDS[0] / 'a.mp4', 41)
    assert len(build(tmp_path, perturbation='translate')[0]) == 41


def test_broken_videos(tmp_path):
    folder = tmp_path / 'snow' / WNIDS[0]
    write_video(folder / 'a.mp4', 20)
    (folder / 'b.mp4').write_bytes((folder / 'a.mp4').read_bytes()[:200])
    dataset = build(tmp_path, perturbation='snow')
    with pytest.raises(ValueError, match=r'a\.mp4 has 20 frames instead of 31'):
        dataset[0]
    with pytest.raises(ValueError, match=r'cannot decode the video .*b\.mp4'):
        dataset[1]
    assert len(build(tmp_path, perturbation='snow', num_frames=20)[0]) == 20


def test_unknown_arguments(tmp_path):
    with pytest.raises(ValueError, match="unknown perturbation 'fog': ImageNet-P has gaussian"):
        build(tmp_path, perturbation='fog')
    with pytest.raises(ValueError, match='difficulty must be 1, 2 or 3, got 4'):
        build(tmp_path, perturbation='snow', difficulty=4)
