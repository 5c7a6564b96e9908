"""The 19 common corruptions of ImageNet-C, for images of any size."""

from mmrobust.corruptions.digital import recompress
from mmrobust.corruptions.engine import check_size, corrupt
from mmrobust.corruptions.seeding import image_seed
from mmrobust.corruptions.severities import GROUPS, NAMES

__all__ = ['GROUPS', 'NAMES', 'check_size', 'corrupt', 'image_seed', 'recompress']
