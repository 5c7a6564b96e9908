"""Freed memory that stays with the process."""
import subprocess
import sys

import pytest

FAULTS = """
import ctypes, resource, sys
from mmrobust.utils.allocator import keep_freed_memory

def faults():
    size = int(sys.argv[1]) * 2**20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    memory = malloc(size)
    ctypes.memset(memory, 1, size)
    free(ctypes.c_void_p(memory))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

libc = ctypes.CDLL(None)
malloc, free = libc.malloc, libc.free
malloc.argtypes, malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
if 'keep' in sys.argv:
    assert keep_freed_memory()
faults()
print(faults())
"""


def faults(mebibytes: int, *arguments: str) -> int:
    """Pages that the system has to provide when so much is allocated for the second time."""
    run = subprocess.run([sys.executable, '-c', FAULTS, str(mebibytes), *arguments],
                         capture_output=True, text=True, check=True)
    return int(run.stdout)


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs the GNU C library')
def test_freed_memory_is_reused():
    assert faults(64) > 25
    assert faults(64, 'keep') < 10


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs the GNU C library')
def test_the_largest_pieces_are_returned():
    assert faults(128, 'keep') > 50
