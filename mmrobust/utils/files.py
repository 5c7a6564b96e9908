"""Files that are either complete or not there."""
import csv
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

# Temporary files: hidden, so that no data set lists them, and short, so that a name that fits
# has one that fits too.
PREFIX = '.unfinished-'
ABANDONED = 600  # seconds without a change after which nobody is writing one any more


def write_atomically(path: str | Path, write: Callable[[str], None]) -> None:
    """Let ``write(temporary path)`` write a file, then move it to ``path`` in one step.

    The temporary file is a new one in the folder of ``path``, under a name that nobody can
    foresee and with the suffix of ``path``. Its content is on the disk before it gets the name
    ``path``, so neither a killed process nor a power failure leaves half a file there.

    Args:
        path (str | Path): The file; what is there is replaced, also a link (not its target).
        write (Callable[[str], None]): Writes to the path that it is given.

    Raises:
        OSError: If the file cannot be written; names it.
    """
    path = Path(path)
    # an unusually long suffix would not fit
    suffix = path.suffix if len(path.suffix) < 16 else ''
    temporary = path.with_name(f'{PREFIX}{secrets.token_hex(8)}{suffix}')
    with _naming(path, temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        try:
            write(str(temporary))
            _flush(temporary, os.O_RDWR)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        with suppress(OSError):  # not every file system can flush a folder
            _flush(path.parent, os.O_RDONLY)


def remove_abandoned(folder: str | Path) -> int:
    """Remove the temporary files that killed processes left in a folder.

    Those that changed within the last ten minutes stay: somebody may be writing them.

    Returns:
        int: How many were removed.
    """
    count = 0
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if is_temporary(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):  # another process may have removed it
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > ABANDONED:
                        os.unlink(entry.path)
                        count += 1
    return count


def is_temporary(name: str) -> bool:
    """Whether a file's name is one of :func:`write_atomically`'s temporary ones."""
    return name.startswith(PREFIX)


def is_absent(path: str | None) -> bool:
    """Whether a path, which is no address of a server, leads nowhere."""
    return isinstance(path, str) and bool(path) and '://' not in path and not Path(path).exists()


def walk(folder: str | Path) -> Iterator[tuple[str, list[str]]]:
    """Every folder below one, with the names of its files, in order of their names.

    Symbolic links are followed, as the host libraries do, but for those that lead back to a
    folder on their way. Hidden files are left out.

    Raises:
        OSError: If a folder cannot be read.
    """
    def stop(error: OSError) -> None:
        raise error

    above = {str(folder): frozenset([os.path.realpath(folder)])}
    for place, folders, names in os.walk(folder, onerror=stop, followlinks=True):
        yield place, sorted(name for name in names if not name.startswith('.'))
        way, inner = above.pop(place), {}
        for name in sorted(folders):
            real = os.path.realpath(os.path.join(place, name))
            if real not in way:
                inner[name] = above[os.path.join(place, name)] = way | {real}
        folders[:] = inner


def _flush(path: Path, mode: int) -> None:
    handle = os.open(path, mode)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _naming(path: Path, temporary: Path) -> Iterator[None]:
    """Makes errors of writing name the file that was to be written, not the temporary one."""
    try:
        yield
    except OSError as error:
        own = (None, str(temporary), str(path), *map(str, path.parents))
        if error.filename not in own and not isinstance(error.filename, int):
            raise  # of something else that was read or written on the way
        named = type(error)(f"'{path}' cannot be written ({error.strerror or error}): free some "
                            'space there, or name a folder that you may write to')
        named.errno = error.errno
        raise named from error


def write_text_atomically(path: str | Path, text: str) -> None:
    """Write a text file in one step."""
    write_atomically(path, lambda temporary: Path(temporary).write_text(text, 'utf-8'))


def write_bytes_atomically(path: str | Path, content: bytes) -> None:
    """Write a file in one step."""
    write_atomically(path, lambda temporary: Path(temporary).write_bytes(content))


def write_rows(path: str | Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write rows as CSV in one step, None as nothing."""
    _write_csv(path, lambda file: csv.writer(file, lineterminator='\n').writerows(rows))


def write_table(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as CSV in one step; floats with six significant digits, None as nothing.

    Rows are taken one by one and not kept, so that any number needs no memory; the file is
    opened before the first is asked for.
    """
    def write(file: TextIO) -> None:
        writer = None
        for row in rows:
            if writer is None:
                writer = csv.DictWriter(file, list(row), lineterminator='\n')
                writer.writeheader()
            writer.writerow({key: f'{value:.6g}' if isinstance(value, float) else value
                             for key, value in row.items()})

    _write_csv(path, write)


def _write_csv(path: str | Path, fill: Callable[[TextIO], None]) -> None:
    def write(temporary: str) -> None:
        with open(temporary, 'w', encoding='utf-8', errors='surrogateescape', newline='') as file:
            fill(file)

    write_atomically(path, write)
