from mmrobust.corruptions import GROUPS, NAMES, image_seed
from mmrobust.corruptions.severities import SEVERITIES

FOG = 10930913475357013231


def test_tables_are_complete():
    for table in SEVERITIES.values():
        assert set(table) == set(NAMES)
        assert all(len(parameters) == 5 for parameters in table.values())


def test_groups():
    assert [len(group) for group in GROUPS.values()] == [19, 15, 3, 4, 4, 4, 4]
    assert GROUPS['blur'] == ('defocus_blur', 'glass_blur', 'motion_blur', 'zoom_blur')
    assert GROUPS['holdout'] == ('speckle_noise', 'gaussian_blur', 'spatter', 'saturate')
    assert set(GROUPS['benchmark']) | set(GROUPS['holdout']) == set(GROUPS['all'])


def test_image_seed_is_fixed():
    """A change here changes every published picture."""
    assert image_seed('frankfurt/a.png', 'fog', 3) == FOG
    others = {image_seed('frankfurt/a.png', 'fog', 3, 1), image_seed('frankfurt/a.png', 'fog', 4),
              image_seed('frankfurt/b.png', 'fog', 3), image_seed('frankfurt/a.png', 'snow', 3)}
    assert len(others | {FOG}) == 5
    assert image_seed('1', 'fog', 2, 3) != image_seed('', 'fog', 2, 13)


