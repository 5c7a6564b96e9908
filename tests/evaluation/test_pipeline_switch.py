import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import LoadImageFromFile, RandomChoice, Resize, TestTimeAug
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from mmengine.registry import DefaultScope
from torch.utils.data import Subset, TensorDataset

from mmrobust.corruptions import corrupt
from mmrobust.corruptions.seeding import image_seed
from mmrobust.datasets.pipeline import replace_loading
from mmrobust.datasets.transforms.corrupt import Corrupt
from mmrobust.evaluation.pipeline_switch import PipelineSwitch, for_prepared
from mmrobust.evaluation.protocols import Cell

FOG = Cell('fog', 4, corruption=dict(name='fog', severity=4))
CLEAN = Cell('clean')


class Images(BaseDataset):
    def load_data_list(self):
        return [dict(img_path=f'{self.data_prefix["img_path"]}/{name}.png') for name in 'ab']


class Arrays(BaseDataset):
    """Like MMPretrain's CIFAR10: decoded RGB images, no paths."""

    def load_data_list(self):
        return [dict(img=np.full((32, 32, 3), (200, 100, 10 * i), np.uint8)) for i in range(3)]


@pytest.fixture
def root(tmp_path):
    rng = np.random.RandomState(0)
    for folder in ('one', 'two'):
        (tmp_path / folder).mkdir()
        for name in 'ab':
            image = cv2.GaussianBlur(rng.randint(0, 256, (64, 64, 3)).astype(np.uint8), (9, 9), 0)
            cv2.imwrite(str(tmp_path / folder / f'{name}.png'), image)
    return tmp_path


def images(root, folder, pipeline):
    return Images(data_root=str(root), data_prefix=dict(img_path=folder), pipeline=pipeline)


def fog(path, identity):
    image = cv2.imread(str(path))[..., ::-1]
    return corrupt(np.ascontiguousarray(image), 'fog', 4,
                   seed=image_seed(identity, 'fog', 4))[..., ::-1]


@pytest.mark.parametrize('wrap, names', [
    (ConcatDataset, ['one/a', 'one/b', 'two/a', 'two/b']),
    (lambda parts: RepeatDataset(parts[1], times=2), ['two/a', 'two/b'] * 2),
    (lambda parts: Subset(parts[0], [1]), ['one/b'])])
def test_wrapped_data_sets_are_switched_and_switched_back(root, wrap, names):
    dataset = wrap([images(root, folder, [LoadImageFromFile()]) for folder in ('one', 'two')])
    switch = PipelineSwitch(dataset)
    switch.switch(FOG)
    assert len(dataset) == len(names)
    for index, name in enumerate(names):
        expected = fog(root / f'{name}.png', f'{name[-1]}.png')
        assert np.array_equal(dataset[index]['img'], expected)
    switch.switch(CLEAN)
    for index, name in enumerate(names):
        assert np.array_equal(dataset[index]['img'], cv2.imread(str(root / f'{name}.png')))


def test_loading_inside_other_transforms(root):
    def small():
        return [LoadImageFromFile(), Resize(scale=(32, 32))]

    augmented = images(root, 'one', [TestTimeAug(transforms=[
        [LoadImageFromFile()], [Resize(scale=(32, 32)), Resize(scale=(40, 40))]])])
    switch = PipelineSwitch(augmented)
    before = augmented[0]['img'][0]
    switch.switch(FOG)
    after = augmented[0]['img']
    expected = cv2.resize(fog(root / 'one/a.png', 'a.png'), (32, 32),
                          interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(after[0], expected) and after[1].shape == (40, 40, 3)
    switch.switch(CLEAN)
    assert np.array_equal(augmented[0]['img'][0], before)

    chosen = images(root, 'one', [RandomChoice([small()])])
    PipelineSwitch(chosen).switch(FOG)
    assert np.array_equal(chosen[0]['img'], expected)


def test_given_transforms_are_left_as_they_are():
    loading, wrapper = LoadImageFromFile(), RandomChoice([[LoadImageFromFile()]])
    given = [loading, wrapper]
    edited, found = replace_loading(given, lambda transform: [transform, 'more'])
    assert found and given == [loading, wrapper] and len(wrapper.transforms[0].transforms) == 1
    assert edited[:2] == [loading, 'more'] and len(edited[2].transforms[0].transforms) == 2


def test_data_sets_of_decoded_images_are_corrupted_first_and_as_rgb():
    dataset = Arrays(pipeline=[Resize(scale=(40, 40))])
    cell = Cell('frost', 2, corruption=dict(name='frost', severity=2, family='cifar'))
    PipelineSwitch(dataset).switch(cell)
    assert isinstance(dataset.pipeline.transforms[0], Corrupt)
    expected = corrupt(np.full((32, 32, 3), (200, 100, 10), np.uint8), 'frost', 2,
                       family='cifar', seed=image_seed('1', 'frost', 2))
    assert np.array_equal(dataset[1]['img'], cv2.resize(expected, (40, 40)))


def test_prepared_images_lose_the_own_resizing(root):
    dataset = images(root, 'one', [LoadImageFromFile(), Resize(scale=(200, 200))])
    cell = Cell('fog', 4, corruption=FOG.corruption,
                prepare=(dict(type='Resize', scale=(48, 48)), dict(type='CenterCrop',
                                                                   crop_size=(36, 36))))
    switch = PipelineSwitch(dataset)
    switch.switch(cell)
    assert [type(t).__name__ for t in dataset.pipeline.transforms] == [
        'ReadImage', 'Resize', 'CenterCrop', 'Corrupt', 'Resize']
    # corrupted at 36 x 36, then brought to the size that the own pipeline ends with
    assert dataset[0]['img'].shape == (200, 200, 3)
    switch.switch(CLEAN)
    assert dataset[0]['img'].shape == (200, 200, 3)


def test_nothing_to_corrupt():
    with pytest.raises(ValueError, match='TensorDataset has no pipeline into which'):
        PipelineSwitch(TensorDataset(torch.zeros(1)))

    class Numbers(BaseDataset):
        def load_data_list(self):
            return [dict(number=1)]

    switch = PipelineSwitch(Numbers(pipeline=[]))
    switch.switch(CLEAN)
    with pytest.raises(ValueError, match='pipeline of Numbers loads an image that could be'):
        switch.switch(FOG)
    with pytest.raises(ValueError, match='Arrays reads no image files that ready-made'):
        PipelineSwitch(Arrays(pipeline=[])).switch(Cell('fog', 1, corrupted_root='c'))


@pytest.mark.parametrize('own, size', [
    ([dict(type='ResizeEdge', scale=256), dict(type='CenterCrop', crop_size=224)], None),
    ([dict(type='Resize', scale=384)], (384, 384)),
    ([dict(type='ResizeEdge', scale=438), dict(type='CenterCrop', crop_size=(384, 320))],
     (384, 320)),  # width, height
    ([dict(type='Resize', scale=32)], (32, 32)),
    ([dict(type='ResizeEdge', scale=256)], None),  # one size for no two images
    ([], None)])
def test_prepared_images_get_the_size_of_the_model(own, size):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        flip, pack = dict(type='RandomFlip', prob=0.), dict(type='PackInputs')
        steps = for_prepared([dict(type='LoadImageFromFile'), *own, flip, pack],
                             ('Resize', 'ResizeEdge', 'CenterCrop'))
        assert [step['type'] for step in steps] == [
            'LoadImageFromFile', *(['Resize'] if size else []), 'RandomFlip', 'PackInputs']
        if size:
            assert steps[1]['scale'] == size
