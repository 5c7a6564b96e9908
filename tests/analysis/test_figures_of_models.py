"""Maps, stability, diversity, branch weights and segmentations of a small model."""
import csv
import json
from statistics import fmean

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmengine.registry import TRANSFORMS

from mmrobust.analysis.branches import capture_branch_weights, tap_weights
from mmrobust.analysis.capture import capture_attention
from mmrobust.analysis.conditions import CLEAN, Condition
from mmrobust.analysis.confidence import draw_confidences, true_class_confidence
from mmrobust.analysis.diversity import head_diversity
from mmrobust.analysis.maps import draw_attention_maps, spread
from mmrobust.analysis.masks import mask_stability
from mmrobust.analysis.running import RunningHistogram
from mmrobust.analysis.segmentations import compare_segmentations, difference_boxes
from mmrobust.analysis.stability import attention_stability
from mmrobust.analysis.statistics import attention_statistics, map_similarity
from mmrobust.analysis.subject import ImageSource, Subject
from mmrobust.datasets.transforms.corrupt import Corrupt

FOG = Condition('fog', 3)
HIDDEN = Condition(occlude=0.25, patch_size=16)


def rows_of(path):
    assert path.with_suffix('.png').stat().st_size > 5000
    assert path.with_suffix('.pdf').read_bytes()[:5] == b'%PDF-'
    with path.open() as file:
        return list(csv.DictReader(file))


def test_attention_maps(subject, tmp_path):
    draw_attention_maps([subject], [2], FOG, tmp_path)
    rows = rows_of(tmp_path / 'attention_maps.csv')
    assert [(row['condition'], row['layer']) for row in rows] == [
        (condition, f'backbone.blocks.{i}.attn') for condition in ('clean', 'fog 3')
        for i in (0, 1)]
    assert [float(row['similarity_to_clean']) < 0.999 for row in rows] == [
        False, False, True, True]
    drawn = np.load(tmp_path / 'attention_maps.npz')
    name = ImageSource(subject.cfg).name(2)
    assert {row['image'] for row in rows} == {name}
    matrix = drawn[f'{name}/small/clean/matrix/backbone.blocks.1.attn']
    assert matrix.shape == (24, 24) and np.allclose(matrix.sum(-1), 1, atol=1e-5)
    assert np.mean(np.diag(matrix)) == pytest.approx(float(rows[1]['diagonality']), rel=1e-4)


def test_attention_of_queries_of_a_file(subject, tmp_path):
    source = ImageSource(subject.cfg)
    image = source.display(source.load(0))
    cv2.imwrite(str(tmp_path / 'street.png'), image[..., ::-1])
    for out, given in (('file', str(tmp_path / 'street.png')), ('data', 0)):
        draw_attention_maps([subject], [given], CLEAN, tmp_path / out, ['-1'], heads=1,
                            queries=[(0.9, 0.1)])
    (first, key), (second, _) = (
        (drawn[drawn.files[0]], drawn.files[0])
        for drawn in (np.load(tmp_path / out / 'attention_maps.npz') for out in ('file', 'data')))
    assert key.endswith('street.png/small/clean/(0.9, 0.1)/backbone.blocks.1.attn/head 1')
    assert first.shape == (4, 6) and np.array_equal(first, second)


def test_heads_of_several_images_side_by_side(subject, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr('mmrobust.analysis.maps.save_figure',
                        lambda figure, path: figures.append(figure))
    draw_attention_maps([subject], [4, 1], HIDDEN, tmp_path, heads='each', queries=[(0.6, 0.3)])
    with (tmp_path / 'attention_maps.csv').open() as file:
        rows = list(csv.DictReader(file))
    source = ImageSource(subject.cfg)
    hidden = '25 % random patches'
    assert [(row['image'], row['condition'], row['head']) for row in rows] == [
        (source.name(i), condition, head) for i in (4, 1) for condition in ('clean', hidden)
        for head in ('0', '1')]
    with capture_attention(subject.model) as clean:
        subject.run(source.load(1))
    with capture_attention(subject.model) as captured:
        subject.run(subject.look(source, 1, HIDDEN))
    heads, _ = map_similarity(*(c['backbone.blocks.1.attn'] for c in (clean, captured)))
    found = [float(row['similarity_to_clean']) for row in rows[-2:]]
    assert found == pytest.approx(heads[0].tolist(), rel=1e-4) and max(found) < 0.9999
    squares = [patch for axis in figures[0].axes if axis.get_visible() for patch in axis.patches]
    assert len(squares) == 4 * 3  # in the picture and over each head
    # 4 x 6 tokens of 16 pixels; 0.6 from the top and 0.3 from the left is row 2, column 1
    assert {(p.get_x(), p.get_y(), p.get_width(), p.get_height()) for p in squares} == {
        (15.5, 31.5, 16, 16)}
    assert {p.get_edgecolor() for p in squares} == {(1, 0, 0, 1)}
    # the cosine over a panel is that of the query's row, not of the whole map as in the CSV
    drawn = np.load(tmp_path / 'attention_maps.npz')
    rows = [drawn[f'{source.name(4)}/small/{condition}/(0.6, 0.3)/backbone.blocks.1.attn/head 1']
            for condition in ('clean', hidden)]
    cosine = np.sum(rows[0] * rows[1]) / np.linalg.norm(rows[0]) / np.linalg.norm(rows[1])
    titles = [axis.get_title() for axis in figures[0].axes]
    assert titles[3 * 1 + 2] == f'layer 1, head 1\ncosine {cosine:.3f}'


def test_stability(subject, tmp_path):
    attention_stability([subject], [FOG, Condition('jpeg_compression', 1)], tmp_path, number=3)
    rows = rows_of(tmp_path / 'attention_stability.csv')
    assert len(rows) == 3 * 2 * 2 * 3  # images, corruptions, layers, two heads and their mean

    def mean(name):
        return fmean(float(row['similarity']) for row in rows if row['condition'] == name)

    assert mean('fog 3') < mean('jpeg compression 1') < 1
    attention_stability([subject], [FOG, Condition('jpeg_compression', 1)], tmp_path / 'again',
                        number=3)
    for name in ('attention_stability.csv', 'attention_stability.png'):
        assert (tmp_path / name).read_bytes() == (tmp_path / 'again' / name).read_bytes()


def test_stability_of_every_head_under_occlusion(subject, tmp_path):
    said = attention_stability([subject], [HIDDEN], tmp_path, number=2, heads='each')
    rows = rows_of(tmp_path / 'attention_stability.csv')
    source = ImageSource(subject.cfg)
    index = source.choose(2, 0)[1]
    assert rows[-1]['image'] == source.name(index)
    with capture_attention(subject.model) as clean:
        subject.run(source.load(index))
    with capture_attention(subject.model) as hidden:
        subject.run(subject.look(source, index, HIDDEN))
    heads, mean = map_similarity(*(c['backbone.blocks.1.attn'] for c in (clean, hidden)))
    assert [float(row['similarity']) for row in rows[-3:]] == pytest.approx(
        [*heads[0].tolist(), mean.item()], rel=1e-4)
    single = fmean(float(row['similarity']) for row in rows if row['head'] != 'mean')
    assert f'{single:.3f} (single heads)' in said
    with pytest.raises(ValueError, match='stability compares clean images with corrupted'):
        attention_stability([subject], [CLEAN], tmp_path / 'clean')
    assert not (tmp_path / 'clean').exists()


def test_running_statistics_are_those_of_all_values():
    values = np.random.default_rng(0).beta(8, 2, 500)
    running = RunningHistogram()
    for value in [*values, float('nan')]:
        running.add(float(value))
    assert running.mean == pytest.approx(values.mean())
    assert running.std == pytest.approx(values.std())
    counts, edges = running.bars(running.least, running.most, 40)
    assert counts.sum() == 500 and len(counts) <= 40
    assert edges[0] <= values.min() and edges[-1] >= values.max()
    expected, _ = np.histogram(values, edges)
    assert np.array_equal(counts, expected)
    counts, edges = running.bars(0.53, 1.0, 40)
    assert edges[-1] == 1 and edges[0] <= 0.53  # no bar beyond what a cosine can be
    same = RunningHistogram()
    same.add(1.)
    counts, edges = same.bars(1., 1., 40)
    assert counts.tolist() == [1] and edges.tolist() == [0.9995, 1]


def test_many_masks_of_one_image(subject, tmp_path):
    said = mask_stability([subject], 3, HIDDEN, tmp_path, masks=20, heads='each')
    rows = rows_of(tmp_path / 'mask_stability.csv')
    assert [int(row['mask_seed']) for row in rows] == list(range(20))  # in batches of 16 and 4
    source = ImageSource(subject.cfg)
    with capture_attention(subject.model) as clean:
        subject.run(source.load(3))
    for seed in (2, 18):
        condition = Condition(occlude=0.25, seed=seed)
        with capture_attention(subject.model) as hidden:
            subject.run(subject.look(source, 3, condition))
        expected = fmean(map_similarity(clean[name], hidden[name])[0].mean().item()
                         for name in clean)
        assert float(rows[seed]['similarity']) == pytest.approx(expected, rel=1e-4)
    values = [float(row['similarity']) for row in rows]
    assert len(set(values)) > 10
    assert f'worst {min(values):.3f} (mask seed {np.argmin(values)})' in said
    with pytest.raises(ValueError, match='many masks of one image are random ones'):
        mask_stability([subject], 3, FOG, tmp_path)


def test_a_single_mask_has_the_limits_of_a_cosine(subject, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr('mmrobust.analysis.masks.save_figure',
                        lambda figure, path: drawn.append(figure))
    said = mask_stability([subject], 3, HIDDEN, tmp_path, masks=1)
    assert '1 mask:' in said and '1 mask;' in drawn[0].get_suptitle()
    low, high = drawn[0].axes[0].get_xlim()
    assert high - low < 0.01 and high < 1.001


def test_occlusion_is_that_of_the_benchmark(subject):
    """A quarter of the 16 x 16 patches, elsewhere untouched; the same again, another by seed."""
    source = ImageSource(subject.cfg)
    clean = source.load(0)['inputs'].float()

    def changed(condition):
        inputs = subject.look(source, 0, condition)['inputs']
        different = (inputs - clean).abs().amax(0) > 0.01
        return different.unfold(0, 16, 16).unfold(1, 16, 16).any(-1).any(-1)

    assert changed(HIDDEN).sum() == 6 and changed(HIDDEN).shape == (4, 6)
    assert torch.equal(changed(HIDDEN), changed(Condition(occlude=0.25)))
    assert not torch.equal(changed(HIDDEN), changed(Condition(occlude=0.25, seed=1)))
    assert changed(Condition('fog', 3, occlude=0.25)).sum() == 24
    assert str(Condition('fog', 3, occlude=0.1)) == 'fog 3, 10 % random patches'
    with pytest.raises(ValueError, match='ratio=0.01 of 4 x 6 patches is less than one'):
        subject.look(source, 0, Condition(occlude=0.01))


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
    assert source.name(0) == '00000' and source.name(file) == f'{tmp_path.name}/image.png'
    assert torch.equal(source.load_file(file)['inputs'], source.load(0)['inputs'])
    expected = Corrupt('saturate', 3, image_order='rgb')(dict(img=image, sample_idx=0))['img']
    assert np.array_equal(source.display(source.load(0, Condition('saturate', 3))), expected)


def test_a_loading_step_of_ones_own(tmp_path):
    """Found, and its order of channels seen, as in a benchmark, whatever it is called."""
    pytest.importorskip('mmpretrain')

    class MyReader(BaseTransform):
        def transform(self, results):
            results['img'] = cv2.imread(results['img_path'])[..., ::-1]
            return results

    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)  # RGB
    image[..., 0] |= 128
    file = str(tmp_path / 'image.png')
    cv2.imwrite(file, image[..., ::-1])
    (tmp_path / 'list.json').write_text(json.dumps(dict(
        metainfo={}, data_list=[dict(img_path=file, gt_label=0)])))
    TRANSFORMS.register_module('MyReader', module=MyReader)
    try:
        source = ImageSource(Config(dict(test_dataloader=dict(dataset=dict(
            type='mmpretrain.BaseDataset', ann_file=str(tmp_path / 'list.json'),
            pipeline=[dict(type='MyReader'), dict(type='mmpretrain.PackInputs')])))))
        seen = source.load_file(file, FOG)
        assert torch.equal(source.load(0, FOG)['inputs'], seen['inputs'])
        expected = Corrupt('fog', 3, image_order='rgb')(dict(img=image, img_path=file))['img']
        assert np.array_equal(seen['inputs'].permute(1, 2, 0).numpy(), expected)
        assert np.array_equal(source.display(source.load(0)), image)
    finally:
        del TRANSFORMS.module_dict['MyReader']


def test_what_a_picture_is_called(subject, tmp_path):
    source = ImageSource(subject.cfg)
    assert source.title(2) == 'image/000002'
    assert source.title(str(tmp_path / 'a_street.png')) == 'a_street'
    assert source.title('/frankfurt_000000_000294_beside_the_road.png') == (
        '000000_000294_beside_the_road'[-24:])
    source.datasets[0].img_suffix = '02.png'
    assert source.title(2) == 'image/0000'


def test_an_image_file_needs_no_data_set(subject, tmp_path):
    """Who has weights and a picture can look at attention."""
    source = ImageSource(subject.cfg)
    cv2.imwrite(str(tmp_path / 'street.png'), source.display(source.load(0)))
    subject.cfg.test_dataloader.dataset = dict(
        type='mmseg.CityscapesDataset', data_root=str(tmp_path / 'nowhere'),
        data_prefix=dict(img_path='img', seg_map_path='gt'),
        pipeline=[dict(type='LoadImageFromFile'), *source.pipeline])
    draw_attention_maps([subject], [str(tmp_path / 'street.png')], FOG, tmp_path / 'out')
    assert len(rows_of(tmp_path / 'out/attention_maps.csv')) == 4
    with pytest.raises(FileNotFoundError, match='nowhere'):
        ImageSource(subject.cfg).choose(1)


def test_unusable_input(subject, tmp_path):
    source = ImageSource(subject.cfg)
    with pytest.raises(ValueError, match='no image 6: the test data have 6, 0 to 5'):
        source.choose(0, indices=[6])
    with pytest.raises(FileNotFoundError, match='no image .*nothing.png'):
        source.load_file(str(tmp_path / 'nothing.png'))
    (tmp_path / 'text.png').write_text('no image')
    with pytest.raises(ValueError, match='text.png. cannot be decoded'):
        source.load_file(str(tmp_path / 'text.png'))
    subject.cfg.test_dataloader = subject.cfg.val_dataloader = None
    with pytest.raises(ValueError, match='neither test_dataloader nor val_dataloader'):
        ImageSource(subject.cfg)


def test_confidence_of_a_segmenter(subject, tmp_path):
    said = draw_confidences([subject], HIDDEN, tmp_path, indices=[1, 4])
    rows = rows_of(tmp_path / 'confidence.csv')
    source = ImageSource(subject.cfg)
    assert [(row['image'], row['condition']) for row in rows] == [
        (source.name(i), str(condition)) for i in (1, 4) for condition in (CLEAN, HIDDEN)]
    sample = subject.predict(subject.look(source, 4, HIDDEN))
    truth = sample.gt_sem_seg.data[0]
    scores = sample.seg_logits.data.softmax(0)
    expected = np.mean([scores[truth[y, x], y, x].item() for y, x in
                        (truth != 255).nonzero().tolist()])
    assert float(rows[-1]['confidence']) == pytest.approx(expected, rel=1e-4)
    assert f'{np.mean([float(row["confidence"]) for row in rows[1::2]]):.3f} (25 % random' in said
    with pytest.raises(ValueError, match='name a corruption, or a share of patches'):
        draw_confidences([subject], CLEAN, tmp_path)


@pytest.mark.parametrize('figure', [
    lambda subject, out: draw_confidences([subject], HIDDEN, out, indices=[1]),
    lambda subject, out: compare_segmentations([subject], out, 1)])
def test_labels_of_other_classes_are_refused(subject, tmp_path, figure):
    meta = subject.cfg.test_dataloader.dataset
    meta.metainfo = dict(classes=('road', 'sky'), palette=[[0, 0, 0], [1, 1, 1]])
    with pytest.raises(ValueError, match='the model has 19 outputs, .* has 2 classes'):
        figure(subject, tmp_path)
    del meta['metainfo']
    subject.model.decode_head.num_classes = 1
    with pytest.raises(ValueError, match='holds labels up to'):
        figure(subject, tmp_path)
    assert not list(tmp_path.iterdir())


def test_confidence_of_a_classifier():
    pytest.importorskip('mmpretrain')
    from mmpretrain.structures import DataSample

    sample = DataSample().set_gt_label(2).set_pred_score(torch.tensor([0.1, 0.2, 0.7]))
    assert true_class_confidence(sample) == pytest.approx(0.7)
    with pytest.raises(ValueError, match='the image has 2 labels'):
        true_class_confidence(sample.set_gt_label([0, 2]))
    with pytest.raises(ValueError, match='needs labelled test data'):
        true_class_confidence(DataSample().set_pred_score(torch.tensor([0.5, 0.5])))


def test_a_classifier_sees_its_images_as_in_a_test(tmp_path):
    """MMPretrain's configs keep the data preprocessor beside the model."""
    pytest.importorskip('mmpretrain')
    backbone = dict(type='FAN', arch=dict(patch_embed='conv', patch_size=8, depths=(1,),
                                          embed_dims=(16,), num_heads=(2,)))
    cfg = Config(dict(
        data_preprocessor=dict(num_classes=3, mean=[120., 110., 100.], std=[60., 50., 40.],
                               to_rgb=True),
        model=dict(type='mmpretrain.ImageClassifier', backbone=backbone,
                   head=dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=16))))
    subject = Subject.load(cfg, None, 'small')
    image = torch.arange(3 * 16 * 16, dtype=torch.uint8).reshape(3, 16, 16)
    seen = subject.prepare(dict(inputs=image))['inputs'][0]
    mean, std = (torch.tensor(values).view(3, 1, 1)
                 for values in (cfg.data_preprocessor.mean, cfg.data_preprocessor.std))
    assert torch.allclose(seen, (image.flip(0).float() - mean) / std)
    # hidden patches hold noise of the normalised space, not black
    data = Condition(occlude=0.5, patch_size=8).change(subject.model, dict(inputs=image))
    changed = subject.prepare(data)['inputs'][0]
    noise = changed[~torch.isclose(changed, seen, atol=1e-3)]
    assert 0 <= noise.min() + 1e-4 and noise.max() < 1 + 1e-4 and 0.4 < noise.mean() < 0.6
