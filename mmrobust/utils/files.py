"""Files that are either complete or not there."""
import csv
import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def write_atomically(path: str | Path, write: Callable[[str], None]) -> None:
    """Let ``write(temporary path)`` write a file, then move it to ``path`` in one step.

    The temporary path has the suffix of ``path``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.stem}.{os.getpid()}{path.suffix}')
    try:
        write(str(temporary))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text_atomically(path: str | Path, text: str) -> None:
    """Write a text file in one step."""
    write_atomically(path, lambda temporary: Path(temporary).write_text(text, 'utf-8'))


def write_table(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV in one step; floats with six significant digits, None as nothing."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows({key: f'{value:.6g}' if isinstance(value, float) else value
                      for key, value in row.items()} for row in rows)
    write_text_atomically(path, text.getvalue())
