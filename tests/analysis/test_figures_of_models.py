"""Maps, stability, diversity, branch weights and segmentations of a small model."""
import csv
import json
from statistics import fmean

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmrobust.analysis.branches import capture_branch_weights, tap_weights
from mmrobust.analysis.capture import capture_attention
from mmrobust.analysis.diversity import head_diversity
from mmrobust.analysis.maps import draw_attention_maps, spread
from mmrobust.analysis.segmentations import compare_segmentations, difference_boxes
from mmrobust.analysis.stability import attention_stability
from mmrobust.analysis.statistics import attention_statistics
from mmrobust.analysis.subject import CLEAN, Condition, ImageSource
from mmrobust.datasets.transforms.corrupt import Corrupt

FOG = Condition('fog', 3)


def rows_of(path):
    assert path.with_suffix('.png').stat().st_size > 5000
    assert path.with_suffix('.pdf').read_bytes()[:5] == b'%PDF-'
    with path.open() as file:
        return list(csv.DictReader(file))


def test_attention_maps(subject, tmp_path):
    draw_attention_maps([subject], 2, FOG, tmp_path)
    rows = rows_of(tmp_path / 'attention_maps.csv')
    assert [(row['condition'], row['layer']) for row in rows] == [
        (condition, f'backbone.blocks.{i}.attn') for condition in ('clean', 'fog 3')
        for i in (0, 1)]
    assert [float(row['similarity_to_clean']) < 0.999 for row in rows] == [
        False, False, True, True]
    drawn = np.load(tmp_path / 'attention_maps.npz')
    matrix = drawn['small/clean/matrix/backbone.blocks.1.attn']
    assert matrix.shape == (24, 24) and np.allclose(matrix.sum(-1), 1, atol=1e-5)
    assert np.mean(np.diag(matrix)) == pytest.approx(float(rows[1]['diagonality']), rel=1e-4)


def test_attention_of_queries_of_a_file(subject, tmp_path):
    source = ImageSource(subject.cfg)
    image = source.display(source.load(0))
    cv2.imwrite(str(tmp_path / 'street.png'), image[..., ::-1])
    for out, given in (('file', str(tmp_path / 'street.png')), ('data', 0)):
        draw_attention_maps([subject], given, CLEAN, tmp_path / out, ['-1'], head=1,
                            queries=[(0.9, 0.1)])
    key = 'small/clean/(0.9, 0.1)/backbone.blocks.1.attn'
    first, second = (np.load(tmp_path / out / 'attention_maps.npz')[key]
                     for out in ('file', 'data'))
    assert first.shape == (4, 6) and np.array_equal(first, second)


def test_stability(subject, tmp_path):
    attention_stability([subject], [FOG, Condition('jpeg_compression', 1)], tmp_path, number=3)
    rows = rows_of(tmp_path / 'attention_stability.csv')
    assert len(rows) == 3 * 2 * 2 * 3  # images, corruptions, layers, two heads and their mean

    def mean(name):
        return fmean(float(row['similarity']) for row in rows if row['corruption'] == name)

    assert mean('fog') < mean('jpeg_compression') < 1
    attention_stability([subject], [FOG, Condition('jpeg_compression', 1)], tmp_path / 'again',
                        number=3)
    for name in ('attention_stability.csv', 'attention_stability.png'):
        assert (tmp_path / name).read_bytes() == (tmp_path / 'again' / name).read_bytes()


def test_diversity(subject, tmp_path):
    head_diversity([subject], tmp_path, number=2, seed=5, layers=[1])
    rows = rows_of(tmp_path / 'head_diversity.csv')
    source = ImageSource(subject.cfg)
    chosen = source.choose(2, 5)
    assert [row['image'] for row in rows] == [source.name(i) for i in chosen]
    with capture_attention(subject.model) as captured:
        subject.run(source.load(chosen[1]))
    expected = attention_statistics(captured['backbone.blocks.1.attn'])
    for name, value in expected.items():
        assert float(rows[1][name]) == pytest.approx(value.item(), rel=1e-4)


def test_branch_weights(subject, tmp_path):
    tap_weights(subject, tmp_path, number=2)
    rows = rows_of(tmp_path / 'tap_weights.csv')
    assert [row['branch'] for row in rows[:4]] == [
        'identity', 'dilation 1', 'dilation 2', 'dilation 3']
    for start in range(0, len(rows), 4):
        for column in ('mean_weight', 'share_of_tokens'):
            assert sum(float(row[column]) for row in rows[start:start + 4]) == pytest.approx(
                1, abs=1e-4)
    with pytest.raises(ValueError, match='Linear has no token-aware average pooling'):
        with capture_branch_weights(torch.nn.Linear(1, 1)):
            pass


def test_segmentations(subject, tmp_path):
    compare_segmentations([subject, subject], tmp_path, conditions=[FOG], indices=[1, 3])
    rows = rows_of(tmp_path / 'segmentation_comparison.csv')
    assert len(rows) == 4 and rows[0]['condition'] == 'fog 3'
    assert rows[0]['pixel_accuracy'] == rows[1]['pixel_accuracy']
    source = ImageSource(subject.cfg)
    data = source.load(1, FOG)
    labels = subject.predict(data).pred_sem_seg.data
    truth = data['data_samples'].gt_sem_seg.data
    known = truth != 255
    assert float(rows[0]['pixel_accuracy']) == pytest.approx(
        100 * (labels == truth)[known].float().mean().item(), rel=1e-4)


def test_boxes():
    first, truth = np.zeros((60, 60), int), np.zeros((60, 60), int)
    second = first.copy()
    second[10:20, 5:35] = 1  # wrong where the first is right
    second[40:50, 40:50] = 2
    second[30] = 3  # a thin line
    assert difference_boxes(first, second, truth) == [(5, 10, 30, 10), (40, 40, 10, 10)]
    truth[:] = 4  # both wrong everywhere
    assert difference_boxes(first, second, truth) == []
    assert len(difference_boxes(first, second)) == 2


def test_images_are_those_of_the_benchmark(subject):
    """The same corrupted pixels as the transform gives in a test pipeline, chosen by seed."""
    source = ImageSource(subject.cfg)
    assert source.choose(3, 1) == source.choose(3, 1) != source.choose(3, 2)
    dataset = source.datasets[0]
    results = dataset.pipeline.transforms[0](dataset.get_data_info(4))
    expected = Corrupt('fog', 3, root=dataset.data_prefix['img_path'])(results)['img']
    found = source.load(4, FOG)
    assert np.array_equal(found['inputs'].permute(1, 2, 0).numpy(), expected)
    assert np.array_equal(source.display(found), expected[..., ::-1])
    assert source.display(found, (70, 100)).shape == (70, 100, 3)
    assert spread('abcdefghij', 4) == list('adgj')


def test_decoded_images(tmp_path):
    """Data sets that hold arrays, such as CIFAR-10, hold RGB; a file is seen like one of them."""
    pytest.importorskip('mmpretrain')
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'image.png'), image[..., ::-1])
    (tmp_path / 'list.json').write_text(json.dumps(dict(
        metainfo={}, data_list=[dict(img_path='image.png', gt_label=0)])))
    cfg = Config(dict(test_dataloader=dict(dataset=dict(
        type='mmpretrain.BaseDataset', ann_file=str(tmp_path / 'list.json'),
        pipeline=[dict(type='mmpretrain.PackInputs')]))))
    source = ImageSource(cfg)
    source.datasets[0].get_data_info = lambda i: dict(img=image, sample_idx=i)
    assert np.array_equal(source.display(source.load(0)), image)
    file = str(tmp_path / 'image.png')
    assert torch.equal(source.load_file(file)['inputs'], source.load(0)['inputs'])
    expected = Corrupt('saturate', 3, image_order='rgb')(dict(img=image, sample_idx=0))['img']
    assert np.array_equal(source.display(source.load(0, Condition('saturate', 3))), expected)


def test_unusable_input(subject, tmp_path):
    source = ImageSource(subject.cfg)
    with pytest.raises(ValueError, match='no image 6: the test data have 6, 0 to 5'):
        source.choose(0, indices=[6])
    with pytest.raises(FileNotFoundError, match='no image .*nothing.png'):
        source.load_file(str(tmp_path / 'nothing.png'))
    (tmp_path / 'text.png').write_text('no image')
    with pytest.raises(ValueError, match='text.png. cannot be decoded as an image'):
        source.load_file(str(tmp_path / 'text.png'))
    subject.cfg.test_dataloader = subject.cfg.val_dataloader = None
    with pytest.raises(ValueError, match='neither test_dataloader nor val_dataloader'):
        ImageSource(subject.cfg)
