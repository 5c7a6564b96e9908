"""Real adverse conditions: ACDC, Dark Zurich, Night Driving (segmentation, Cityscapes classes)."""
from .base import Cell, Protocol, register_protocol


@register_protocol('acdc')
def acdc(name: str, data_root: str = 'data/acdc', split: str = 'val',
         submission_dir: str = 'work_dirs/acdc_submission') -> Protocol:
    """ACDC (Sakaridis et al., ICCV 2021).

    Args:
        name (str): Name of the protocol.
        data_root (str): Folder of the unpacked archives.
        split (str): 'train', 'val' or 'test'; 'test' has no labels and writes the files for the
            evaluation server instead.
        submission_dir (str): Where these go.
    """
    dataset = dict(type='ACDCDataset', data_root=data_root, split=split, test_mode=True)
    evaluator = dict(type='ACDCMetric')
    if split != 'test':
        return Protocol(name, (Cell(name, dataset=dataset, evaluator=evaluator),),
                        summary='conditions', task='segmentation')
    evaluator.update(submission_dir=submission_dir)
    cell = Cell(name, dataset=dataset, evaluator=evaluator, drop=('LoadAnnotations',))
    return Protocol(name, (cell,), summary='plain', task='segmentation')


@register_protocol('dark-zurich', type='DarkZurichDataset', data_root='data/dark_zurich',
                   img_path='rgb_anon/val/night/GOPR0356', seg_map_path='gt/val/night/GOPR0356')
@register_protocol('night-driving', type='NightDrivingDataset',
                   data_root='data/NighttimeDrivingTest', img_path='leftImg8bit/test/night',
                   seg_map_path='gtCoarse_daytime_trainvaltest/test/night')
def night(name: str, type: str, data_root: str, img_path: str, seg_map_path: str) -> Protocol:
    """Dark Zurich (Sakaridis et al., 2019) and Night Driving (Dai & Van Gool, 2018).

    Args:
        name, type (str): Name of the protocol, class of the data set in MMSegmentation.
        data_root (str): Folder of the data set.
        img_path, seg_map_path (str): Folders of images and labels below it.
    """
    dataset = dict(type=f'mmseg.{type}', data_root=data_root, test_mode=True,
                   data_prefix=dict(img_path=img_path, seg_map_path=seg_map_path))
    cell = Cell(name, dataset=dataset, evaluator=dict(type='mmseg.IoUMetric'))
    return Protocol(name, (cell,), summary='plain', task='segmentation')
