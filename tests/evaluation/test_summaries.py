import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrobust.evaluation import get_protocol
from mmrobust.evaluation.metrics.corruption_error import ALEXNET_ERROR
from mmrobust.evaluation.protocols import Cell, Protocol
from mmrobust.evaluation.summaries import AS_THE_SERVER, SUMMARIES


def summary(protocol, values, metric='mIoU'):
    return SUMMARIES[protocol.summary](
        protocol, {key: {metric: value} for key, value in values.items()}, metric)


def test_types_weigh_the_same_whatever_their_severities():
    protocol = get_protocol('cityscapes-c')
    values = {cell.key: 90.0 if cell.name == 'clean' else 30.0 if 'noise' in cell.name
              else 70.0 for cell in protocol.cells}
    result = summary(protocol, values)
    assert result['P'] == 90
    assert result['mPC'] == pytest.approx((4 * 30 + 12 * 70) / 16)
    assert result['rPC'] == pytest.approx(60 / 90)
    assert result['types']['shot_noise'] == 30 and result['headings']['noise'] == 30


@given(st.sets(st.integers(0, 72), max_size=72), st.floats(1, 100))
def test_missing_cells_never_count(missing, value):
    protocol = get_protocol('cityscapes-c')
    values = {cell.key: value for i, cell in enumerate(protocol.cells) if i not in missing}
    result = summary(protocol, values)
    if missing - {0}:
        assert result['mPC'] is None and result['rPC'] is None
    if len(missing | {0}) < 73:
        assert result['mPC_finished'] == pytest.approx(value)
    else:
        assert result['mPC_finished'] is None
    for name, mean in result['types'].items():
        complete = all(cell.key in values for cell in protocol.cells if cell.name == name)
        assert (mean == pytest.approx(value)) if complete else mean is None


def test_undefined_metric_is_missing():
    protocol = get_protocol('fog')
    result = summary(protocol, {cell.key: None if cell.severity == 3 else 50.0
                                for cell in protocol.cells})
    assert result['mPC'] is None and result['mPC_finished'] == 50


def test_mean_corruption_error():
    protocol = get_protocol('imagenet-c')
    values = {cell.key: 50.0 for cell in protocol.cells}
    values['fog', 1] = 80.0
    result = summary(protocol, values, 'accuracy/top1')
    assert result['corruption_errors']['snow'] == pytest.approx(50 / 0.866816)
    assert result['corruption_errors']['fog'] == pytest.approx((20 + 4 * 50) / 5 / 0.819324)
    others = sum(50 / error for name, error in ALEXNET_ERROR.items() if name != 'fog')
    assert result['mCE'] == pytest.approx((others + 44 / 0.819324) / 15)
    del values['fog', 2]
    result = summary(protocol, values, 'accuracy/top1')
    assert result['mCE'] is None and result['corruption_errors']['snow'] is not None


def test_table_3_of_the_paper():
    """Corruption errors of FAN-B-Hybrid as printed (TAP & ADL paper, table 3), with and without
    noise: 46.2 and, in the AFAT paper's table, 48.1."""
    printed = dict(zip(ALEXNET_ERROR, (
        40.12, 39.27, 36.80, 51.58, 63.96, 47.53, 54.98, 40.24, 43.96, 36.98, 36.68, 34.17, 61.59,
        53.25, 51.86), strict=True))
    protocol = get_protocol('imagenet-c')
    values = {cell.key: 100 - printed[cell.name] * ALEXNET_ERROR[cell.name]
              for cell in protocol.cells if cell.name != 'clean'}
    result = summary(protocol, values, 'accuracy/top1')
    assert result['corruption_errors']['fog'] == pytest.approx(36.98)
    assert result['mCE'] == pytest.approx(46.2, abs=0.05)
    assert result['mCE_without_noise'] == pytest.approx(48.06, abs=0.006)
    del values['gaussian_noise', 2]
    result = summary(protocol, values, 'accuracy/top1')
    assert result['mCE'] is None and result['mCE_without_noise'] == pytest.approx(48.06, abs=0.006)


def test_cifar_mean_error():
    protocol = get_protocol('cifar10-c')
    values = {cell.key: 95.0 if cell.name == 'clean' else 75.0 for cell in protocol.cells}
    assert summary(protocol, values, 'accuracy/top1')['mean_error'] == 25


def test_parts_of_one_evaluation():
    protocol = Protocol('acdc', (Cell('acdc'),), summary='plain')
    metrics = {'fog/mIoU': 60.0, 'night/mIoU': 40.0, 'fog/aAcc': 90.0,
               'all_images_together/mIoU': 48.0}
    result = SUMMARIES['plain'](protocol, {('acdc', 0): metrics}, 'all_images_together/mIoU')
    assert result['types'] == {'fog': 60.0, 'night': 40.0, 'all_images_together': 48.0}
    # a row for each condition is no 'all_images_together/mIoU'
    result = SUMMARIES['conditions'](protocol, {('acdc', 0): metrics}, 'all_images_together/mIoU')
    assert result['label'] == 'mIoU' and result[AS_THE_SERVER] == 48.0
    single = Protocol('dark-zurich', (Cell('dark-zurich'),), summary='plain')
    result = SUMMARIES['plain'](single, {('dark-zurich', 0): dict(mIoU=30.0, aAcc=80.0)}, 'mIoU')
    assert result['types'] == {'dark-zurich': 30.0}
