"""Finding data sets inside wrappers, and the steps that load images."""
from mmcv.transforms import LoadAnnotations, LoadImageFromFile, Resize
from mmengine.dataset import BaseDataset, RepeatDataset
from torch.utils.data import ConcatDataset, Subset

from mmrobust.datasets.pipeline import leaves, what_it_reads


class Numbers(BaseDataset):
    def load_data_list(self):
        return [dict(number=1)]


def test_leaves_of_built_data_sets_and_of_configs():
    one, two = Numbers(), Numbers()
    both = ConcatDataset([RepeatDataset(one, 2), two])
    assert list(leaves(Subset(both, [0]))) == [one, two]
    first, second = dict(type='Numbers', pipeline=[]), dict(type='Numbers')
    config = dict(type='ConcatDataset',
                  datasets=[dict(type='RepeatDataset', dataset=first), second])
    assert list(leaves(config)) == [first, second]


def test_a_loader_is_known_by_what_it_is_derived_from():
    class Scans(LoadImageFromFile):
        pass

    class Masks(LoadAnnotations):
        pass

    for step in (LoadImageFromFile(), Scans(), dict(type=Scans),
                 dict(type='mmcv.LoadImageFromFile')):
        assert what_it_reads(step) == 'img_path'
    for step in (Masks(), dict(type=Masks), dict(type='LoadAnnotations')):
        assert what_it_reads(step) == 'seg_map_path'
    for step in (Resize(scale=(4, 4)), dict(type=Resize), dict(type='Resize')):
        assert what_it_reads(step) is None
