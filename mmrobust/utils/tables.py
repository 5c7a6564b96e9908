"""Tables for the terminal."""
from collections.abc import Sequence

Row = Sequence[str] | None


def format_table(rows: Sequence[Row], text_columns: int = 2) -> str:
    """Rows in columns, all but the first ones right-aligned; None draws a line."""
    widths = [max(map(len, column)) for column in zip(*filter(None, rows), strict=True)]
    lines = []
    for row in rows:
        cells = row or ['-' * width for width in widths]
        lines.append(('  ' if row else '--').join(
            cell.ljust(width) if i < text_columns else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))).rstrip())
    return '\n'.join(lines)
