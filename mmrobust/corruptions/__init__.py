"""The 19 common corruptions of ImageNet-C, for images of any size."""

from mmrobust.corruptions.engine import corrupt
from mmrobust.corruptions.seeding import image_seed
from mmrobust.corruptions.severities import GROUPS, NAMES

__all__ = ['GROUPS', 'NAMES', 'corrupt', 'image_seed']
