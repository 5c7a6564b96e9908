import logging

import pytest

from mmrobust.evaluation import progress
from mmrobust.evaluation.progress import Progress, quiet_console
from mmrobust.evaluation.protocols import Cell


@pytest.fixture
def logger(caplog):
    logger = logging.Logger('benchmark', logging.INFO)
    logger.addHandler(caplog.handler)
    return logger


def test_estimates_from_what_is_done(logger, caplog, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
    said = Progress(logger, cells=4)
    said.enter(Cell('fog', 1), batches=10)
    now[0] += 5
    said.step(1)  # too soon after the last line
    now[0] += 15
    said.step(5)
    now[0] += 20
    said.leave('mIoU 50.00')
    said.enter(Cell('snow', 2), batches=10)
    now[0] += 40
    said.step(10)  # the line of the finished cell follows at once
    said.leave('mIoU 40.00')
    said.enter(Cell('rain'), batches=10)
    said.leave('')  # it has another metric
    assert [record.getMessage() for record in caplog.records] == [
        '[1/4] fog, severity 1: 5 of 10 batches, 0:02:20 left',
        '[1/4] fog, severity 1: mIoU 50.00, 0:02:00 left',
        '[2/4] snow, severity 2: mIoU 40.00, 0:01:20 left',
        '[3/4] rain: 0:00:27 left']


def test_console_shows_progress_and_warnings_only(logger, caplog, tmp_path):
    file = logging.FileHandler(tmp_path / 'log')
    logger.addHandler(file)
    with quiet_console(logger):
        logger.info('table of all classes')
        logger.warning('careful')
        logger.info('halfway', extra=dict(benchmark=True))
    logger.info('finished')
    file.close()
    assert caplog.messages == ['careful', 'halfway', 'finished']
    assert (tmp_path / 'log').read_text().split('\n')[0] == 'table of all classes'
