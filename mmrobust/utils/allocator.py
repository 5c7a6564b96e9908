"""What the C library does with the memory of tensors that are freed."""
import ctypes

# from malloc.h of the GNU C library
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER = 2**31 - 1  # bytes; the parameters are ints
LARGEST_KEPT = 80 * 2**20  # bytes; larger ones would leave gaps that nothing else fits


def keep_freed_memory() -> bool:
    """Let this process reuse the memory of freed tensors instead of returning it to the system.

    A training step on the CPU allocates and frees gigabytes. By default the GNU C library hands
    every large piece back at once, and the system clears each page anew when it is used again.
    Tensors of more than :data:`LARGEST_KEPT` bytes are still returned: keeping them as well made
    a step of FAN-B at 1024 x 1024 need a gigabyte more.

    Returns:
        bool: Whether the C library has these settings; other libraries are left alone.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGEST_KEPT) and mallopt(_M_TRIM_THRESHOLD, _NEVER))
