import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile

from mmrobust.corruptions import corrupt, image_seed
from mmrobust.datasets.copy_records import copy_settings, other_corruptions
from mmrobust.datasets.corrupted_copy import write_corrupted_copies
from mmrobust.datasets.transforms.corrupt import Corrupt
from mmrobust.datasets.transforms.read_image import ReadImage
from mmrobust.evaluation.protocols import get_protocol
from mmrobust.utils import files as files_module

CELLS = dict(corruptions=['fog', 'shot_noise'], severities=[1, 4])


@pytest.fixture
def source(tmp_path):
    rng = np.random.default_rng(0)
    for name in ('aachen/a.png', 'aachen/b.jpg', 'c.png'):
        path = tmp_path / 'source' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 256, (36, 48, 3), dtype=np.uint8))
    (tmp_path / 'source' / 'readme.txt').write_text('not an image')
    return tmp_path / 'source'


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob('*') if path.is_file()}


def test_layout_and_content(source, tmp_path):
    target = tmp_path / 'target'
    assert write_corrupted_copies(source, target, **CELLS, seed=5) == 12
    assert set(files(target)) == {'settings.json', 'sources.json'} | {
        f'{name}/{severity}/{image}.png' for name in CELLS['corruptions']
        for severity in CELLS['severities'] for image in ('aachen/a', 'aachen/b', 'c')}
    image = cv2.cvtColor(cv2.imread(str(source / 'aachen/b.jpg')), cv2.COLOR_BGR2RGB)
    expected = corrupt(image, 'fog', 4, seed=image_seed('aachen/b.jpg', 'fog', 4, 5))
    written = cv2.imread(str(target / 'fog/4/aachen/b.png'))
    np.testing.assert_array_equal(written[..., ::-1], expected)


@pytest.mark.parametrize('order', ['rgb', 'bgr'])
def test_equals_the_transform(source, tmp_path, order):
    target = tmp_path / 'target'
    write_corrupted_copies(source, target, ['snow'], [3], channel_order=order)
    path = str(source / 'aachen/a.png')
    transform = Corrupt('snow', 3, channel_order=order, root=str(source))
    on_the_fly = transform(dict(img=cv2.imread(path), img_path=path))['img']
    np.testing.assert_array_equal(cv2.imread(str(target / 'snow/3/aachen/a.png')), on_the_fly)


def test_workers_and_resuming_give_the_same_files(source, tmp_path, monkeypatch):
    once, again = tmp_path / 'once', tmp_path / 'again'
    write_corrupted_copies(source, once, **CELLS, workers=2)

    replace, calls = files_module.os.replace, []

    def interrupted(*paths):
        if len(calls) == 5:
            raise KeyboardInterrupt
        calls.append(replace(*paths))

    with monkeypatch.context() as patch:
        patch.setattr(files_module.os, 'replace', interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_corrupted_copies(source, again, **CELLS)
    assert len(files(again)) == 5  # nothing half written, no temporary file
    assert write_corrupted_copies(source, again, **CELLS) == 8
    assert files(again) == files(once)
    assert write_corrupted_copies(source, again, **CELLS) == 0


def test_jpeg_quality(source, tmp_path):
    sizes = []
    for quality in (20, 95):
        target = tmp_path / str(quality)
        write_corrupted_copies(source, target, ['contrast'], [1], format='jpg', quality=quality)
        sizes.append(len((target / 'contrast/1/c.jpg').read_bytes()))
    assert sizes[0] < sizes[1]


def test_other_settings_are_refused(source, tmp_path):
    write_corrupted_copies(source, tmp_path / 'target', ['contrast'], [1])
    with pytest.raises(ValueError, match="begun with .*'seed': 0.*not with .*'seed': 1"):
        write_corrupted_copies(source, tmp_path / 'target', ['contrast'], [2], seed=1)
    assert json.loads((tmp_path / 'target/settings.json').read_text())['seed'] == 0


@pytest.mark.parametrize(('options', 'message'), [
    (dict(corruptions=['rust']), "'rust': choose groups .*holdout.* or types .*saturate"),
    (dict(severities=[6]), 'severity is 6'),
    (dict(format='gif'), "format is 'gif': choose png or jpg"),
    (dict(channel_order='rbg'), "channel order is 'rbg'"),
    (dict(family='tiny'), "'tiny'"),
    (dict(format='jpg', quality=300), 'quality is 300: choose 1 to 100'),
    (dict(workers=-1), 'workers is -1'),
])
def test_mistakes_are_noticed_before_work_starts(source, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        write_corrupted_copies(source, tmp_path / 'target', **options)
    assert not (tmp_path / 'target').exists()


def test_unfit_folders_and_images(source, tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere. does not exist'):
        write_corrupted_copies(tmp_path / 'nowhere', tmp_path / 'target')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match='empty. holds no image'):
        write_corrupted_copies(tmp_path / 'empty', tmp_path / 'target')

    cv2.imwrite(str(source / 'small.png'), np.zeros((20, 40, 3), np.uint8))
    with pytest.raises(ValueError, match='small.png.: .*40 x 20 pixels'):
        write_corrupted_copies(source, tmp_path / 'target', ['fog'], [1])
    (source / 'small.png').unlink()

    (source / 'folder.png').mkdir()
    with pytest.raises(ValueError, match='folder.png. is a folder with the name of an image'):
        write_corrupted_copies(source, tmp_path / 'target', ['fog'], [1])
    (source / 'folder.png').rmdir()

    (source / 'c.jpg').write_bytes(b'')
    with pytest.raises(ValueError, match='c.jpg and c.png would both become c.png'):
        write_corrupted_copies(source, tmp_path / 'target', ['fog'], [1])
    (source / 'c.jpg').rename(source / 'd.jpg')
    for workers in (1, 2):
        with pytest.raises(ValueError, match='d.jpg. is empty'):
            write_corrupted_copies(source, tmp_path / f'{workers}', ['fog'], [1], workers=workers)


def test_tool(source, tmp_path, repo):
    tool = [sys.executable, repo / 'tools/converters/corrupt_dataset.py', source]
    options = ['--corruptions', 'contrast', '--severities', '2', '--workers', '1']
    run = subprocess.run([*tool, tmp_path / 'target', *options], cwd=repo, text=True,
                         capture_output=True, check=True)
    assert '3 images written' in run.stdout and '3/3' in run.stderr
    run = subprocess.run([*tool, tmp_path / 'target', *options, '--seed', '1'], cwd=repo,
                         text=True, capture_output=True)
    assert run.returncode == 1 and 'Traceback' not in run.stderr


def made(source, target):
    return write_corrupted_copies(source, target, ['contrast'], [1])


def test_links_are_followed_and_loops_end(source, tmp_path):
    (source / 'aachen').rename(tmp_path / 'elsewhere')
    (source / 'aachen').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'elsewhere' / 'loop').symlink_to(source)
    (source / 'd.png').symlink_to(source / 'c.png')
    assert made(source, tmp_path / 'target') == 4
    assert {path.name for path in (tmp_path / 'target/contrast/1/aachen').iterdir()} == {
        'a.png', 'b.png'}
    (source / 'c.png').unlink()
    with pytest.raises(FileNotFoundError, match='d.png. is a link to a file that is not there'):
        made(source, tmp_path / 'target')
    (source / 'd.png').unlink()
    os.mkfifo(source / 'd.png')
    with pytest.raises(ValueError, match='d.png. is a pipe'):
        made(source, tmp_path / 'target')


def test_source_and_target_lie_apart(source, tmp_path):
    (tmp_path / 'link').symlink_to(source)
    (tmp_path / 'deep').symlink_to(source / 'aachen')
    for target in (source, source / 'corrupted', source / 'aachen', tmp_path, tmp_path / 'link',
                   tmp_path / 'link' / 'new', tmp_path / 'deep', source / '..'):
        with pytest.raises(ValueError, match='lie in one another'):
            made(source, target)
    (tmp_path / 'target').mkdir()
    (source / 'linked').symlink_to(tmp_path / 'target')  # copies would be found there next time
    with pytest.raises(ValueError, match='lie in one another'):
        made(source, tmp_path / 'target')


def test_copies_of_changed_images_are_noticed(source, tmp_path):
    target = tmp_path / 'target'
    made(source, target)
    content = (source / 'c.png').read_bytes()
    (source / 'c.png').write_bytes(content)  # touched, but the same
    assert made(source, target) == 0
    cv2.imwrite(str(source / 'c.png'), np.zeros((36, 48, 3), np.uint8))
    for cells in (['contrast'], ['contrast', 'fog']):
        with pytest.raises(ValueError, match=r"c.png' has changed since .*/1/c.png': remove"):
            write_corrupted_copies(source, target, cells, [1])
    # a run that was killed leaves no digests: the times must do
    (target / 'sources.json').unlink()
    with pytest.raises(ValueError, match=r"c.png' has changed since"):
        made(source, target)
    (target / 'contrast/1/c.png').unlink()
    assert made(source, target) == 1 and made(source, target) == 0


def test_copies_of_another_version_are_noticed(source, tmp_path):
    target = tmp_path / 'target'
    made(source, target)
    settings = json.loads((target / 'settings.json').read_text())
    assert list(settings['signatures']) == ['contrast/1']
    for other in ({'contrast/1': '0' * 16}, {}):
        (target / 'settings.json').write_text(json.dumps(dict(settings, signatures=other)))
        with pytest.raises(ValueError, match="target/contrast/1' were made by another version"):
            made(source, target)
        stale = other_corruptions(copy_settings(target))
        assert stale == list(other)
        if stale:
            with pytest.raises(ValueError, match="target/contrast/1 were made by another version"):
                get_protocol('contrast', corrupted_root=str(target))
    (target / 'settings.json').write_text('{')
    with pytest.raises(ValueError, match="settings.json' is damaged"):
        made(source, target)


def test_names_that_are_no_text(source, tmp_path, repo):
    for name in (b'stra\xdfe.jpg', b'new\nline  .jpg', b'l' * 251 + b'.jpg'):
        path = tmp_path / 'source' / os.fsdecode(name)
        path.write_bytes((source / 'aachen/b.jpg').read_bytes())
    tool = [sys.executable, repo / 'tools/converters/corrupt_dataset.py', source,
            tmp_path / 'target', '--corruptions', 'contrast', '--severities', '2']
    for workers in '12':
        subprocess.run([*tool, '--workers', workers], cwd=repo, check=True, capture_output=True)
    names = {os.fsencode(path.name) for path in (tmp_path / 'target/contrast/2').iterdir()}
    assert {b'stra\xdfe.png', b'new\nline  .png', b'l' * 251 + b'.png'} < names
    (tmp_path / 'source' / os.fsdecode(b'stra\xdfe.jpg')).write_bytes(b'no image')
    run = subprocess.run([*tool, '--corruptions', 'fog'], cwd=repo, capture_output=True, text=True)
    assert run.returncode == 1 and 'Traceback' not in run.stderr and 'stra' in run.stderr


def deep_source(tmp_path, dtype=np.uint16, scale=257, size=(36, 48, 3), name='a.png'):
    rng = np.random.default_rng(0)
    (tmp_path / 'deep').mkdir(exist_ok=True)
    image = (rng.integers(0, 256, size) * scale).astype(dtype)
    cv2.imwrite(str(tmp_path / 'deep' / name), image)
    return tmp_path / 'deep'


@pytest.mark.parametrize('size', [(36, 48, 3), (36, 48, 4), (36, 48)])
def test_copies_of_16_bits_have_16_bits(tmp_path, size):
    source = deep_source(tmp_path, size=size)
    write_corrupted_copies(source, tmp_path / 'out', ['fog'], [3])
    copy = cv2.imread(str(tmp_path / 'out/fog/3/a.png'), cv2.IMREAD_UNCHANGED)
    assert copy.dtype == np.uint16
    path = str(source / 'a.png')
    image = cv2.imread(path, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    on_the_fly = Corrupt('fog', 3, root=str(source))(dict(img=image, img_path=path))['img']
    np.testing.assert_array_equal(copy, on_the_fly)
    assert copy.max() > 255 * 200  # not a 16-bit file with the numbers of 8 bits


def test_16_bits_that_a_copy_would_lose(tmp_path):
    source = deep_source(tmp_path)
    with pytest.raises(ValueError, match=r'a\.png.* has 16 bits, which jpg .*: write png'):
        write_corrupted_copies(source, tmp_path / 'out', ['fog'], [3], format='jpg')
    source = deep_source(tmp_path, scale=16)  # 12 bits in 16
    with pytest.raises(ValueError, match='uint16 with values from 0 to 4080.*value of white'):
        write_corrupted_copies(source, tmp_path / 'out', ['fog'], [3])
    assert not (tmp_path / 'out').exists()


def test_sizes_are_looked_at_before_the_first_copy(source, tmp_path):
    cv2.imwrite(str(source / 'z.png'), np.zeros((5, 300, 3), np.uint8))
    with pytest.raises(ValueError, match=r'z\.png.*300 x 5 pixels is too small'):
        write_corrupted_copies(source, tmp_path / 'out', ['fog'], [3])
    assert not (tmp_path / 'out').exists()


def test_ready_made_images_of_another_kind_are_refused(tmp_path):
    source = deep_source(tmp_path)
    (tmp_path / 'eight').mkdir()
    cv2.imwrite(str(tmp_path / 'eight/a.png'), np.zeros((36, 48, 3), np.uint8))
    read = ReadImage(LoadImageFromFile(color_type='unchanged'), str(source),
                     str(tmp_path / 'eight'))
    with pytest.raises(ValueError, match='loaded as uint8 with 3 channels.*as uint16 with 3'):
        read(dict(img_path=str(source / 'a.png')))
