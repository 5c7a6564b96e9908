"""ACDC: driving scenes in fog, at night, in rain and in snow."""
import os.path as osp
from collections.abc import Sequence
from pathlib import Path

from mmengine.registry import DATASETS

from mmrobust.utils.hosts import require

require('mmseg')
from mmseg.datasets import CityscapesDataset

CONDITIONS = ('fog', 'night', 'rain', 'snow')
SPLITS = ('train', 'val', 'test')
# folders below the root: unpacked side by side, or each archive in a folder of its own name
IMAGE_FOLDERS = ('rgb_anon', 'rgb_anon_trainvaltest/rgb_anon')
LABEL_FOLDERS = ('gt', 'gt_trainval/gt')
SUFFIX, REFERENCE_SUFFIX, LABEL_SUFFIX = (
    '_rgb_anon.png', '_rgb_ref_anon.png', '_gt_labelTrainIds.png')


def _first_folder(root: str, folders: Sequence[str], content: str) -> str:
    for folder in folders:
        if osp.isdir(osp.join(root, folder)):
            return folder
    raise FileNotFoundError(f'no {content} of ACDC in {root}: expected {" or ".join(folders)} '
                            f'there, as the archives unpack; name the folder that '
                            'holds them (data_root)')


@DATASETS.register_module(force=True)
class ACDCDataset(CityscapesDataset):
    """ACDC (Sakaridis, Dai and Van Gool, ICCV 2021) in its own folder layout.

    Images ``rgb_anon/{condition}/{split}/{recording}/*_rgb_anon.png``, labels (Cityscapes train
    ids) ``gt/{condition}/{split}/{recording}/*_gt_labelTrainIds.png``. The test split and the
    reference images have no labels: leave out ``LoadAnnotations`` there.

    Args:
        data_root (str): Folder of the archives.
        split (str): 'train', 'val' or 'test'.
        conditions (str | Sequence[str]): Any of fog, night, rain and snow.
        reference (bool): Read the images of the same places in good weather instead.
        **kwargs: Arguments of :class:`mmseg.datasets.BaseSegDataset`.

    Raises:
        FileNotFoundError: If a folder or a label is missing.
        ValueError: If the split or a condition is unknown.
    """

    def __init__(self,
                 data_root: str,
                 split: str = 'train',
                 conditions: str | Sequence[str] = CONDITIONS,
                 reference: bool = False,
                 **kwargs) -> None:
        self.conditions = (conditions,) if isinstance(conditions, str) else tuple(conditions)
        for value, known in ((split, SPLITS), *((c, CONDITIONS) for c in self.conditions)):
            if value not in known:
                raise ValueError(f'ACDC has no {value!r}: choose from {", ".join(known)}.')
        self.split = split
        self.reference = reference
        prefix = dict(img_path=_first_folder(data_root, IMAGE_FOLDERS, 'images'))
        if split != 'test' and not reference:
            prefix['seg_map_path'] = _first_folder(data_root, LABEL_FOLDERS, 'labels')
        super().__init__(
            data_root=data_root, data_prefix=prefix, seg_map_suffix=LABEL_SUFFIX,
            img_suffix=REFERENCE_SUFFIX if reference else SUFFIX, **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the images of all conditions, in a fixed order."""
        images = Path(self.data_prefix['img_path'])
        labels = self.data_prefix.get('seg_map_path')
        data = []
        for condition in self.conditions:
            folder = images / condition / (self.split + '_ref' * self.reference)
            found = sorted(folder.glob(f'*/*{self.img_suffix}'))
            if not found:
                raise FileNotFoundError(f'no images *{self.img_suffix} in the recordings of '
                                        f'{folder}: unpack the images of ACDC there.')
            for path in found:
                info = dict(img_path=str(path), label_map=self.label_map,
                            reduce_zero_label=self.reduce_zero_label, seg_fields=[])
                if labels:
                    name = path.name.removesuffix(self.img_suffix) + self.seg_map_suffix
                    label = Path(labels, path.parent.relative_to(images), name)
                    if not label.is_file():
                        raise FileNotFoundError(f'no label {label}: unpack the labels of ACDC '
                                                f'beside its images.')
                    info['seg_map_path'] = str(label)
                data.append(info)
        return data
