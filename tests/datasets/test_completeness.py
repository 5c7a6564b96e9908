"""Checks of a data set's files before work starts."""
import os
import re
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.dataset import ConcatDataset, RepeatDataset
from mmengine.registry import DATASETS, HOOKS, DefaultScope
from PIL import Image

import mmrobust  # noqa: F401
from mmrobust.datasets.completeness import check_dataset, missing_data
from mmrobust.datasets.images import ImageDecodeError, check_whole, load_named
from mmrobust.datasets.pipeline import NamingCompose, name_files
from mmrobust.utils.mistakes import InputError

pytest.importorskip('mmseg')


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ('images', 'labels'):
        (tmp_path / folder).mkdir()
    for i in range(4):
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(
            tmp_path / f'images/{i}.jpg')
        Image.fromarray(rng.integers(0, 19, (40, 60), dtype=np.uint8)).save(
            tmp_path / f'labels/{i}.png')
    return tmp_path


def build(root, **kwargs):
    return DATASETS.build(dict(
        type='mmseg.BaseSegDataset', data_root=str(root), metainfo=dict(classes=('a',)),
        data_prefix=dict(img_path='images', seg_map_path='labels'), **kwargs))


def test_sound(root):
    dataset = build(root)
    assert check_dataset(dataset) == 4
    assert check_dataset(dataset, limit=3) == 3
    assert check_dataset(dataset, limit=None) == 4
    assert check_dataset(ConcatDataset([dataset, dataset])) == 8
    assert check_dataset(RepeatDataset(dataset, 2)) == 4


def test_drawn_scenes_need_no_check_of_files():
    assert check_dataset(DATASETS.build(dict(type='SyntheticStreets', num_samples=5))) == 5


def _cut(path, share=0.7):
    data = path.read_bytes()
    path.write_bytes(data[:int(len(data) * share)])


@pytest.mark.parametrize(('damage', 'error', 'message'), [
    (lambda root: Image.new('L', (30, 20)).save(root / 'labels/2.png'), ValueError,
     r"label map .*2\.png' is 30 x 20 pixels, its image .*2\.jpg' 60 x 40: they must have"),
    (lambda root: (root / 'labels/1.png').unlink(), FileNotFoundError,
     r"label map .*1\.png' does not exist: check data_root, data_prefix and the suffixes"),
    (lambda root: _cut(root / 'images/3.jpg'), ValueError, r"image .*3\.jpg' is cut short"),
    (lambda root: _cut(root / 'labels/0.png'), ValueError, r"label map .*0\.png' is cut short"),
    (lambda root: (root / 'images/0.jpg').write_bytes(b''), ValueError,
     r"image .*0\.jpg' is empty"),
])
def test_damage(root, damage, error, message):
    damage(root)
    with pytest.raises(error, match=message):
        check_dataset(build(root))


@pytest.mark.parametrize(('config', 'problems'), [
    (dict(), []),
    (dict(img_suffix='.tif'),
     [r"images' of mmseg.BaseSegDataset has no file ending with '\.tif': check img_suffix"]),
    (dict(type='mmseg.CityscapesDataset', img_suffix='.jpg'),
     [r"labels' of mmseg.CityscapesDataset has no file ending with '_gtFine_labelTrainIds\.png'"]),
    (dict(data_prefix=dict(img_path='images/train', seg_map_path='labels')),
     [r"img_path=.*images/train' of mmseg.BaseSegDataset is not there: check data_prefix"]),
    (dict(ann_file='val.txt', img_suffix='.tif'), []),
])
def test_missing_data(root, config, problems):
    config = {**dict(type='mmseg.BaseSegDataset', data_root=str(root), data_prefix=dict(
        img_path='images', seg_map_path='labels')), **config}
    assert list(missing_data(dict(config, data_root='s3://bucket'))) == []
    found = list(missing_data(config))
    assert len(found) == len(problems)
    for sentence, pattern in zip(found, problems, strict=True):
        assert re.search(pattern, sentence)


def test_an_empty_list_of_images(root):
    config = dict(type='mmpretrain.CustomDataset', data_root=str(root), data_prefix='images',
                  ann_file='meta/val.txt')
    assert list(missing_data(config)) == []  # a list that is not there is told by its reader
    (root / 'meta').mkdir()
    (root / 'meta/val.txt').touch()
    sentence, = missing_data(config)
    assert "val.txt' of mmpretrain.CustomDataset is empty: write a line" in sentence
    (root / 'meta/val.txt').write_text('0.jpg 1\n')
    assert list(missing_data(config)) == []


def test_suffix_of_a_class_of_the_default_scope(root):
    config = dict(type='CityscapesDataset', data_root=str(root),
                  data_prefix=dict(img_path='images'))
    with DefaultScope.overwrite_default_scope('mmseg'):
        assert "no file ending with '_leftImg8bit.png'" in next(missing_data(config))


def test_unusual_ending_is_no_damage(root):
    path = root / 'images/0.jpg'
    path.write_bytes(path.read_bytes()[:-2])  # all pixels, but no end mark
    path.write_bytes(path.read_bytes() + b'\xff\xd9' + bytes(5000))  # much padding
    check_whole(str(path))


def test_hook_checks_what_the_run_uses(root):
    hook = HOOKS.build(dict(type='CheckDataHook'))
    sound = SimpleNamespace(dataloader=SimpleNamespace(dataset=build(root)))
    runner = SimpleNamespace(_train_loop=sound, _val_loop=None, _test_loop=dict(type='TestLoop'))
    hook.before_run(runner)
    assert type(sound.dataloader.dataset.pipeline) is NamingCompose
    Image.new('L', (30, 20)).save(root / 'labels/2.png')
    with pytest.raises(ValueError, match='must have the same size'):
        hook.before_run(runner)


LOADING = [dict(type='LoadImageFromFile'), dict(type='mmseg.LoadAnnotations')]


def rotated(path, size=(40, 60)):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', size).save(path, exif=exif)  # shown as 60 x 40


def test_sizes_are_those_that_the_pipelines_own_loader_makes(root):
    for i in range(4):
        rotated(root / f'images/{i}.jpg')
    assert check_dataset(build(root, pipeline=LOADING)) == 4
    for loader in (dict(imdecode_backend='pillow'), dict(color_type='color_ignore_orientation'),
                   dict(color_type='unchanged')):
        steps = [dict(LOADING[0], **loader), LOADING[1]]
        upright = loader.get('imdecode_backend') == 'pillow'
        if upright:
            assert check_dataset(build(root, pipeline=steps)) == 4
        else:
            with pytest.raises(ValueError, match='its image .* 40 x 60'):
                check_dataset(build(root, pipeline=steps))
    rotated(root / 'images/1.jpg', (60, 40))  # as stored it fits, as shown it does not
    with pytest.raises(ValueError, match=r"its image '.*1\.jpg' 40 x 60"):
        check_dataset(build(root, pipeline=LOADING))


def test_links_are_followed_and_loops_end(root, tmp_path_factory):
    other = tmp_path_factory.mktemp('other')
    for folder in ('images', 'labels'):
        (root / folder).rename(other / folder)
        (root / folder).mkdir()
        (root / folder / 'city').symlink_to(other / folder)
        (other / folder / 'back').symlink_to(root / folder)
    config = dict(type='mmseg.BaseSegDataset', data_root=str(root), data_prefix=dict(
        img_path='images', seg_map_path='labels'))
    assert list(missing_data(config)) == []


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize(('damaged', 'backend'), [
    ('images/2.jpg', 'cv2'), ('images/2.jpg', 'pillow'), ('labels/2.png', 'pillow'),
    ('labels/2.png', 'cv2')])
def test_a_worker_names_the_file_it_was_reading(root, damaged, backend, workers):
    from torch.utils.data import DataLoader

    dataset = build(root, pipeline=[dict(LOADING[0], imdecode_backend=backend),
                                    dict(LOADING[1], imdecode_backend=backend)])
    HOOKS.build(dict(type='CheckDataHook')).before_run(SimpleNamespace(
        _train_loop=SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset)),
        _val_loop=None, _test_loop=None))
    for content in ((root / damaged).read_bytes()[:-200], b'<html>', b''):
        (root / damaged).write_bytes(content)
        with pytest.raises(ImageDecodeError, match=rf"^(image|label map) '\S*{damaged}' .*\.$"):
            list(DataLoader(dataset, num_workers=workers, collate_fn=list))


def test_mistakes_of_the_config_do_not_look_like_damaged_files(root):
    dataset = build(root, pipeline=LOADING)
    info = dict(dataset.get_data_info(0))
    del info['reduce_zero_label']
    with pytest.raises(KeyError, match='reduce_zero_label'):
        NamingCompose(dataset.pipeline.transforms)(info)


def test_an_absent_codec_is_no_damage(root):
    def load(results):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    with pytest.raises(ImageDecodeError, match='install imagecodecs, or convert the file'):
        load_named(load, dict(img_path=str(root / 'images/0.jpg')))


@pytest.mark.parametrize('workers', [0, 1])
def test_an_early_end_of_the_data_is_no_success(root, workers):
    """A loop over a loader takes StopIteration for the end: there would be fewer images."""
    from torch.utils.data import DataLoader

    dataset = build(root, pipeline=[lambda results: next(iter(()))])
    hook, loader = HOOKS.build(dict(type='CheckDataHook')), DataLoader(dataset, num_workers=workers)
    runner = SimpleNamespace(test_loop=SimpleNamespace(dataloader=loader))
    name_files(dataset)
    with pytest.raises(InputError, match='function raises StopIteration'):
        list(loader)
    hook.after_test_iter(runner, 2)
    with pytest.raises(ValueError, match='BaseSegDataset ended after 3 of 4 batches'):
        hook.after_test_epoch(runner)
    hook.after_test_iter(runner, 3)
    hook.after_test_epoch(runner)


def test_a_pass_over_data_that_never_end_is_stopped(root):
    from mmengine.dataset import InfiniteSampler
    from torch.utils.data import DataLoader

    dataset = build(root)
    loader = DataLoader(dataset, batch_size=3, sampler=InfiniteSampler(dataset))
    runner = SimpleNamespace(test_loop=SimpleNamespace(dataloader=loader))
    hook = HOOKS.build(dict(type='CheckDataHook'))
    hook.after_test_iter(runner, 1)
    with pytest.raises(ValueError, match='InfiniteSampler goes on after all 2 batches of BaseSegD'):
        hook.after_test_iter(runner, 2)


def test_what_is_no_error_at_all_names_the_transform(root):
    def odd(results):
        raise BaseException('odd')

    with pytest.raises(InputError, match='function raises BaseException: odd: correct'):
        NamingCompose([odd])({})


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'a.png')
    with pytest.raises(ImageDecodeError, match='it is a pipe, a socket or a device'):
        check_whole(str(tmp_path / 'a.png'))


def test_a_folder_with_the_name_of_an_image_is_not_passed_over(root):
    (root / 'images/9.jpg').mkdir()
    config = dict(type='mmseg.BaseSegDataset', data_root=str(root), data_prefix=dict(
        img_path='images', seg_map_path='labels'))
    assert list(missing_data(config)) == [
        f"'{root}/images/9.jpg' is a folder with the name of a file: remove or replace it"]
