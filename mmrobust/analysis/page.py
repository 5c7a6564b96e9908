"""The parts of a page that stands alone: style, script, tables and pictures."""
import base64
from collections.abc import Sequence
from html import escape
from typing import Any

from . import explorer

STYLE = '''
:root { color-scheme: light; --line: #d8d8d8; --accent: #0072b2; }
body { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; margin: 0 auto; max-width: 75rem;
       padding: 1rem 1.5rem 4rem; }
h1 { margin-bottom: .2rem; } h2 { margin-top: 2.5rem; border-bottom: 2px solid var(--accent); }
nav a { margin-right: 1.2rem; color: var(--accent); } p.note { color: #555; margin-top: 0; }
.scroll { overflow-x: auto; } figure { margin: 1rem 0; }
figure img { max-width: 100%; height: auto; } figcaption { color: #555; font-size: .9em; }
.row { display: flex; flex-wrap: wrap; gap: 1rem; } .row figure { margin: 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .8rem 0; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child, td.text { text-align: left; } td.text { white-space: nowrap; }
th { text-align: left; vertical-align: bottom; }
th button { all: unset; cursor: pointer; font-weight: 600; }
th button:focus-visible { outline: 2px solid var(--accent); }
th[aria-sort=ascending] button::after { content: " \\25B2"; }
th[aria-sort=descending] button::after { content: " \\25BC"; }
tbody tr:hover { background: #eef5fa; }
'''

SCRIPT = '''
for (const button of document.querySelectorAll("th button"))
  button.addEventListener("click", () => {
    const th = button.parentElement, body = th.closest("table").tBodies[0];
    const column = th.cellIndex, down = th.getAttribute("aria-sort") === "ascending";
    for (const other of th.parentElement.cells) other.removeAttribute("aria-sort");
    th.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const compare = (a, b) => {
      const x = key(a), y = key(b);
      if (x === "" || y === "") return (x === "") - (y === "");  // what is missing goes last
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return down ? -order : order;
    };
    body.append(...[...body.rows].sort(compare));
  });
'''


def page(title: str, sections: Sequence[tuple[str, str]]) -> str:
    """A whole HTML page.

    Args:
        title (str): Its title.
        sections (Sequence[tuple[str, str]]): Heading and HTML of each section.
    """
    links = ''.join(f'<a href="#s{i}">{escape(heading)}</a>'
                    for i, (heading, _) in enumerate(sections))
    body = ''.join(f'<section><h2 id="s{i}">{escape(heading)}</h2>{html}</section>'
                   for i, (heading, html) in enumerate(sections))
    return (f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<title>{escape(title)}</title><style>{STYLE}{explorer.STYLE}</style></head><body>'
            f'<h1>{escape(title)}</h1><nav>{links}</nav>{body}<script>{SCRIPT}{explorer.SCRIPT}</script>'
            f'</body></html>\n')


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A sortable table; numbers in few digits, with the whole ones as keys of sorting."""
    head = ''.join(f'<th scope="col"><button type="button">{escape(_readable(key))}</button></th>'
                   for key in rows[0])
    body = ''.join('<tr>' + ''.join(map(_cell, row.values())) + '</tr>' for row in rows)
    return (f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody>'
            '</table></div>')


def figure(picture: bytes, caption: str, kind: str = 'png') -> str:
    """A picture with its caption; PNG figures are drawn for dense screens and shown smaller."""
    data = base64.b64encode(picture).decode()
    pixels = int.from_bytes(picture[16:20], 'big')  # where a PNG says its width
    width = f' width="{pixels * 5 // 8}"' if kind == 'png' else ''
    return (f'<figure><img src="data:image/{kind};base64,{data}"{width} alt="{escape(caption)}">'
            f'<figcaption>{escape(caption)}</figcaption></figure>')


def _readable(key: str) -> str:
    return key.replace('_', ' ')


def _cell(value: Any) -> str:
    if value is None or value == '':
        return '<td data-value="">–</td>'
    if isinstance(value, (int, float)):
        return f'<td data-value="{value}">{_digits(value)}</td>'
    return f'<td class="text">{escape(str(value))}</td>'


def _digits(value: float) -> str:
    for unit, sign in ((1e9, 'G'), (1e6, 'M')):
        if abs(value) >= unit:
            return f'{value / unit:.4g}{sign}'
    if value == int(value) and abs(value) != 1:
        return f'{int(value)}'
    return f'{value:.2f}' if abs(value) >= 10 else f'{value:.4g}'
