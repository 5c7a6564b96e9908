"""What a preprocessor of the hosts does to pixels is read right."""
from types import SimpleNamespace

import pytest
from mmengine.registry import MODELS

from mmrobust.models.image_range import swaps_channels


@pytest.mark.parametrize('kind, option', [
    ('mmseg.SegDataPreProcessor', 'bgr_to_rgb'), ('mmpretrain.ClsDataPreprocessor', 'to_rgb'),
    ('mmengine.ImgDataPreprocessor', 'bgr_to_rgb')])
@pytest.mark.parametrize('value', [True, False])
def test_channels_are_swapped_where_the_host_does(kind, option, value):
    scope = kind.split('.')[0]
    pytest.importorskip(scope)
    __import__(f'{scope}.models' if scope != 'mmengine' else 'mmengine.model')
    preprocessor = MODELS.build({'type': kind, option: value})
    assert swaps_channels(preprocessor) == value


@pytest.mark.parametrize('name', ['_channel_conversion', 'channel_conversion', 'to_rgb'])
def test_by_whichever_name(name):
    assert swaps_channels(SimpleNamespace(**{name: True}))
    assert not swaps_channels(SimpleNamespace(**{name: False}))
