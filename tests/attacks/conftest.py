"""Settings for models as small as those attacked here."""
import pytest
import torch


@pytest.fixture(autouse=True, scope='session')
def one_thread():
    """They are slower with more threads, and much slower on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
