"""One process at a time works in a folder."""
import errno
import json
import os
import shlex
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

NAME = '.in_use'
UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)

# the kernel's locks are between processes: these are of this one
_held: set[str] = set()
_guard = threading.Lock()


@contextmanager
def locked(folder: str | Path, remedy: str = 'choose another folder') -> Iterator[None]:
    """Keep other processes from working in a folder, which is made if it is not there.

    The kernel forgets the lock of a process that ends, however it ends, so none is ever left
    behind. While it is held, the file ``.in_use`` tells who holds it.

    Args:
        folder (str | Path): The folder.
        remedy (str): What else to do than to wait.

    Raises:
        BlockingIOError: If it is in use; says by whom.
        OSError: If the folder cannot be written.
    """
    folder = Path(folder)
    path = folder / NAME
    with _naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        key = str(folder.resolve())
    with _guard:
        if key in _held:
            raise BlockingIOError(f"'{folder}' is in use by this process: wait for it, or {remedy}")
        _held.add(key)
    try:
        handle = _acquire(folder, path, remedy)
    except BaseException:
        _held.discard(key)
        raise
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # before the lock is gone, so it is nobody else's
        os.close(handle)
        _held.discard(key)


def _acquire(folder: Path, path: Path, remedy: str) -> int:
    while True:
        with _naming(folder):
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _lock(handle, folder, path, remedy)
            with suppress(FileNotFoundError):
                if os.stat(path).st_ino == os.fstat(handle).st_ino:
                    with _naming(folder):
                        _sign(handle)
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # whoever held it has removed the file since


def _lock(handle: int, folder: Path, path: Path, remedy: str) -> None:
    try:
        if fcntl is None:
            raise OSError(errno.ENOSYS, 'no locks')
        # a record lock: unlike flock's, workers that outlive this process do not inherit it
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = _holder(path)
        if error.errno in UNSUPPORTED:
            _without_locks(folder, holder, remedy)
            return
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        raise BlockingIOError(f"'{folder}' is in use by {_describe(holder)}: wait for it, or "
                              f'{remedy}') from None


def _without_locks(folder: Path, holder: dict[str, Any], remedy: str) -> None:
    """Where the file system has no locks, the file alone must do."""
    if holder.get('host') == socket.gethostname() and _alive(holder.get('process')):
        raise BlockingIOError(f"'{folder}' is in use by {_describe(holder)}: wait for it, or "
                              f'{remedy}')
    warnings.warn(f"the file system of '{folder}' has no locks: make sure yourself that no other "
                  'machine works in it', stacklevel=2)


def _alive(process: Any) -> bool:
    try:
        os.kill(int(process), 0)
    except PermissionError:
        return True
    except (OSError, TypeError, ValueError):
        return False
    return int(process) != os.getpid()


def _sign(handle: int) -> None:
    text = json.dumps(dict(host=socket.gethostname(), process=os.getpid(),
                           since=time.strftime('%Y-%m-%d %H:%M:%S'),
                           command=shlex.join(sys.argv)), indent=1)
    os.ftruncate(handle, 0)
    os.pwrite(handle, text.encode('utf-8', 'backslashreplace'), 0)


def _holder(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text('utf-8'))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _describe(holder: dict[str, Any]) -> str:
    if not holder:
        return 'another process'
    return (f'process {holder.get("process")} on {holder.get("host")} since '
            f'{holder.get("since")} ({holder.get("command")})')


@contextmanager
def _naming(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(f"'{folder}' cannot be written ({error.strerror or error}): free some space "
                      'there, or name a folder that you may write to') from None
