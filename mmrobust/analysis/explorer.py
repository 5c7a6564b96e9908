"""A part of the report page to look around in: model, type and class, and a cell's pictures."""
import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import cv2

from mmrobust.utils.results_classes import per_class

PICTURE_WIDTH = 480
MOST_PICTURES = 150  # of a page, so that it stays one that a browser opens

STYLE = '''
.explorer label { margin-right: 1rem; } .explorer td button { all: unset; cursor: pointer; }
.explorer td button:focus-visible { outline: 2px solid var(--accent); }
.explorer td[aria-selected=true] { background: #cfe6f5; }
.explorer img { max-width: 100%; height: auto; display: block; margin: .5rem 0; }
'''

SCRIPT = '''
for (const box of document.querySelectorAll(".explorer")) {
  const data = JSON.parse(box.querySelector("script").textContent);
  const [model, type, of] = box.querySelectorAll("select");
  const table = box.querySelector("table"), shown = box.querySelector(".shown");
  const make = (tag, text) => Object.assign(document.createElement(tag), {textContent: text});
  const digits = value => value === null ? "\\u2013" : value.toFixed(2);
  const fill = (select, names) => {
    const before = select.value;
    select.replaceChildren(...names.map(
      name => Object.assign(make("option", name), {value: name})));
    select.value = names.includes(before) ? before : names[0];
  };
  const value = cell => {
    const at = of.selectedIndex - 1;
    return at < 0 ? cell.value : (cell.classes ?? [])[at] ?? null;
  };
  const show = (cell, td) => {
    for (const other of table.querySelectorAll("td")) other.removeAttribute("aria-selected");
    td.setAttribute("aria-selected", "true");
    const name = cell.name + (cell.severity ? ", " + cell.severity : "");
    const pictures = cell.pictures.map(i => Object.assign(document.createElement("img"),
      {src: data.pictures[i], alt: name}));
    shown.replaceChildren(make("h4", `${model.value}: ${name}, ${of.value} ${digits(value(cell))}`),
      ...(pictures.length ? pictures : [make("p", "No pictures of this cell: keep them with "
        + "--show-dir inside the folder of the model.")]));
  };
  const draw = () => {
    const own = data.models[model.selectedIndex];
    fill(type, ["all types", ...new Set(own.cells.map(cell => cell.name))]);
    fill(of, [own.metric, ...own.classes.map(name => `${own.measure} of ${name}`)]);
    const cells = own.cells.filter(c => type.selectedIndex === 0 || c.name === type.value);
    const severities = [...new Set(cells.map(cell => cell.severity))].sort((a, b) => a - b);
    const head = make("tr", "");
    head.append(make("th", "type"), ...severities.map(s => make("th", s || "\\u2013")));
    const rows = [...new Set(cells.map(cell => cell.name))].map(name => {
      const row = make("tr", "");
      row.append(make("td", name), ...severities.map(severity => {
        const cell = cells.find(c => c.name === name && c.severity === severity);
        const td = make("td", "");
        if (cell) {
          const button = make("button", digits(value(cell)));
          button.type = "button";
          button.addEventListener("click", () => show(cell, td));
          td.append(button);
        }
        return td;
      }));
      return row;
    });
    table.replaceChildren(head, ...rows);
    shown.replaceChildren();
  };
  for (const select of [model, type, of]) select.addEventListener("change", draw);
  draw();
}
'''


def explorer(results: Sequence[Mapping[str, Any]], most: int = MOST_PICTURES) -> str:
    """HTML of one benchmark's results to look around in.

    Args:
        results (Sequence[Mapping]): Contents of results files of one benchmark, each with
            ``folder``, the folder below which pictures of its cells may lie.
        most (int): Most pictures.
    """
    pictures: list[str] = []
    models = []
    for result in results:
        found = [per_class(cell) for cell in result['cells']]
        measure, values = next((own for own in found if own), ('', ()))
        names = result.get('classes') or []
        models.append(dict(
            name=result['model'], metric=result['metric'], measure=measure,
            classes=[names[i] if i < len(names) else str(i) for i in range(len(values))],
            cells=[dict(name=cell['name'], severity=cell['severity'],
                        value=cell['metrics'].get(result['metric']),
                        classes=own[1] if own else None,
                        pictures=_add(pictures, result.get('folder'), cell, most))
                   for cell, own in zip(result['cells'], found, strict=True)]))
    # a text of </script> would end the element
    data = json.dumps(dict(models=models, pictures=pictures)).replace('<', '\\u003c')
    options = ''.join(f'<option>{escape(model["name"])}</option>' for model in models)
    return ('<div class="explorer"><p><label>model <select>' + options + '</select></label>'
            '<label>type <select></select></label><label>value <select></select></label></p>'
            '<div class="scroll"><table></table></div>'
            '<div class="shown" aria-live="polite"></div>'
            f'<script type="application/json">{data}</script></div>')


def _add(pictures: list[str], folder: Path | None, cell: Mapping[str, Any], most: int) -> list[int]:
    """Add the first picture of a cell, if there is one; its place."""
    if folder is None or len(pictures) >= most:
        return []
    path = next((path for place in sorted(folder.rglob(f'{cell["name"]}/{cell["severity"]}'))
                 if place.is_dir() for path in sorted(place.rglob('*.png'))), None)
    image = None if path is None else cv2.imread(str(path))
    if image is None:
        return []
    scale = min(1., PICTURE_WIDTH / image.shape[1])
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    content = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
    pictures.append('data:image/jpeg;base64,' + base64.b64encode(content).decode())
    return [len(pictures) - 1]
