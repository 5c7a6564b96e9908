"""What the C library does with the memory of tensors that are freed."""
import ctypes

# from malloc.h of the GNU C library
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = 2**31 - 1  # bytes; the parameters are ints


def keep_freed_memory() -> bool:
    """Let this process reuse the memory of freed tensors instead of returning it to the system.

    A training step on the CPU allocates and frees gigabytes. By default the GNU C library hands
    every large piece back at once, and the system clears each page anew when it is used again.

    Returns:
        bool: Whether the C library has these settings; other libraries are left alone.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return all(mallopt(parameter, _LARGEST)
               for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD))
