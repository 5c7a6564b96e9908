import pytest

from mmrobust.corruptions import GROUPS, NAMES
from mmrobust.evaluation import PROTOCOLS, get_protocol


def types(protocol):
    return list(dict.fromkeys(cell.name for cell in protocol.cells))


def test_cityscapes_c_is_the_papers():
    protocol = get_protocol('cityscapes-c')
    assert len(protocol.cells) == 1 + 4 * 3 + 12 * 5 == 73
    assert types(protocol)[0] == 'clean' and len(types(protocol)) == 17
    assert not {'zoom_blur', 'elastic_transform', 'pixelate'} & set(types(protocol))
    assert max(c.severity for c in protocol.cells if c.name.endswith('noise')) == 3
    assert {c.corruption['channel_order'] for c in protocol.cells[1:]} == {'bgr'}
    assert list(protocol.headings) == ['blur', 'noise', 'digital', 'weather']


def test_classification_protocols():
    imagenet = get_protocol('imagenet-c')
    assert set(types(imagenet)) == {'clean', *GROUPS['benchmark']}
    assert [step['type'] for step in imagenet.cells[1].prepare] == [
        'mmpretrain.ResizeEdge', 'mmpretrain.CenterCrop']
    # used where the model takes another size, so that clean and corrupted images compare
    assert imagenet.cells[0].prepare == imagenet.cells[1].prepare
    extra = get_protocol('imagenet-c-extra')
    assert set(types(extra)) == {'clean', *GROUPS['holdout']} and len(extra.cells) == 21
    cifar = get_protocol('cifar10-c')
    assert {cell.corruption['family'] for cell in cifar.cells[1:]} == {'cifar'}
    assert len(cifar.cells) == 76


def test_groups_types_and_lists():
    for name in ('all', 'benchmark', 'noise', 'blur', 'weather', 'digital', 'holdout'):
        assert set(types(get_protocol(name))) == {'clean', *GROUPS[name]}
    assert set(types(get_protocol('all'))) == {'clean', *NAMES}
    assert types(get_protocol('fog')) == ['clean', 'fog']
    assert set(types(get_protocol('holdout, fog'))) == {'clean', 'fog', *GROUPS['holdout']}
    assert {c.corruption['channel_order'] for c in get_protocol('fog').cells[1:]} == {'rgb'}


def test_selection_keeps_the_protocol():
    protocol = get_protocol('cityscapes-c', 'fog,holdout', '1,3')
    assert len(protocol.cells) == 73
    assert [cell.key for cell in protocol.selected] == [
        ('clean', 0), ('gaussian_blur', 1), ('gaussian_blur', 3), ('speckle_noise', 1),
        ('speckle_noise', 3), ('saturate', 1), ('saturate', 3), ('spatter', 1), ('spatter', 3),
        ('fog', 1), ('fog', 3)]
    assert len(get_protocol('cityscapes-c', severities=5).selected) == 1 + 12
    blur = get_protocol('cityscapes-c', 'blur', 1).selected
    assert {cell.name for cell in blur} == {'clean', *protocol.headings['blur']}
    some = {cell.name for cell in get_protocol('cityscapes-c', 'benchmark').selected}
    assert 'fog' in some and 'spatter' not in some and 'zoom_blur' not in some


def test_options_reach_the_cells():
    cells = get_protocol('cityscapes-c', seed=4, channel_order='rgb').cells
    assert cells[1].corruption['seed'] == 4 and cells[1].corruption['channel_order'] == 'rgb'
    ready = get_protocol('imagenet-c', corrupted_root='data/imagenet-c').cells[1]
    assert ready.corruption is None and ready.corrupted_root == 'data/imagenet-c'
    assert [step['type'] for step in ready.prepare] == ['mmpretrain.CenterCrop']
    test = get_protocol('acdc', split='test', data_root='d').cells[0]
    assert test.dataset['data_root'] == 'd' and test.drop == ('LoadAnnotations',)


@pytest.mark.parametrize('args, message', [
    (dict(name='cityscape-c'), "unknown benchmark 'cityscape-c': did you mean cityscapes-c"),
    (dict(name='fogg'), "unknown benchmark 'fogg': did you mean fog"),
    (dict(name='fog,snowy'), "unknown corruption 'snowy': did you mean snow"),
    (dict(name='cityscapes-c', corruptions='rain'), "unknown corruption 'rain'"),
    (dict(name='cityscapes-c', corruptions='zoom_blur'), 'zoom_blur is not part of cityscapes-c'),
    (dict(name='fog', severities=6), 'severity 6 is not part of fog: choose from 1, 2, 3, 4, 5'),
    (dict(name='fog', severities='high'), 'severities high: give integers'),
    (dict(name='cityscapes-c', corruptions='shot_noise', severities=[5]),
     'no cell of shot_noise at severity 5'),
    (dict(name='acdc', corrupted_root='x'), "unknown option of acdc 'corrupted_root'"),
    (dict(name='fog', colour='x'), "unknown option of fog 'colour'"),
    (dict(name='pgd', seed='x'), "seed='x' of pgd: it must be a whole number"),
    (dict(name='fog', channel_order='grb'), "channel_order 'grb' of fog: choose rgb or bgr"),
    (dict(name='fog', family='tiny'), "family 'tiny' of fog: choose imagenet or cifar"),
])
def test_errors_name_the_mistake(args, message):
    with pytest.raises(ValueError, match=message) as mistake:
        get_protocol(**args)
    assert mistake.value.__cause__ is None  # the sentence tells all, no log has more


def test_every_protocol_can_be_made():
    for name in list(PROTOCOLS):
        protocol = get_protocol(name)
        assert protocol.cells and protocol.name == name
        keys = [cell.key for cell in protocol.cells]
        assert len(set(keys)) == len(keys)


def test_ready_made_images_of_other_settings_are_refused(tmp_path):
    (tmp_path / 'settings.json').write_text(
        '{"format": "png", "channel_order": "rgb", "seed": 0, "family": "imagenet"}')
    with pytest.raises(ValueError, match='made with channel_order=rgb, cityscapes-c is defined '
                                         'with channel_order=bgr'):
        get_protocol('cityscapes-c', corrupted_root=str(tmp_path))
    get_protocol('cityscapes-c', corrupted_root=str(tmp_path), channel_order='rgb')
    get_protocol('fog', corrupted_root=str(tmp_path))
