"""Seeds that depend on what is corrupted, never on the order in which it is corrupted."""

import hashlib


def image_seed(identity: str, name: str, severity: int, seed: int = 0) -> int:
    """Returns the seed of one corrupted image.

    The same arguments give the same number in every process, on every machine and Python version.

    Args:
        identity (str): What identifies the image in its data set, such as its relative path.
        name (str): The corruption.
        severity (int): The severity, 1 to 5.
        seed (int): Selects another, independent set of corrupted images.

    Returns:
        int: A seed in [0, 2**64).
    """
    key = '\0'.join((str(seed), name, str(severity), identity))
    code = key.encode('utf-8', 'surrogateescape')  # names of files need not be text
    return int.from_bytes(hashlib.blake2b(code, digest_size=8).digest(), 'little')
