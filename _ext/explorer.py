"""The directive ``explorer``: samples for a grid of S and eta, chosen by two sliders, without a network.

Its text, if it has any, is the line below the picture:

    ```{explorer}
    Move S with eta = 0.
    ```

The samples are one image sheet, which ``tools/explorer.py`` makes. Where scripts run, ``web/explorer/explorer.js`` cuts
the chosen row out of it. Where they do not, and on paper, two parts of the sheet are shown as they are.
"""

from __future__ import annotations

import json
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.osutil import relative_uri
from sphinx.writers.html5 import HTML5Translator

ABOUT = Path(__file__).resolve().parent.parent / "images" / "explorer.json"  # the sheet's grid, beside the sheet
SHEET = "_static/explorer/explorer.png"  # where web_files.py puts it
START = {"S": 20, "eta": 0.0}


class Explorer(nodes.General, nodes.Element):
    """An explorer; its children are the text below it."""


class ExplorerDirective(SphinxDirective):
    """``explorer``, with text or without."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """One node, whose name no other explorer of the book has."""
        self.env.note_dependency(str(ABOUT))
        name = f"explorer-{self.env.docname}-{self.env.new_serialno('explorer')}"
        node = Explorer("", name=nodes.make_id(name))
        self.state.nested_parse(self.content, self.content_offset, node)
        return [node]


@cache
def grid() -> dict[str, Any]:
    """What the script must know of the sheet: the lists of S, eta and seeds, and a cell's height and width."""
    about = json.loads(ABOUT.read_text(encoding="utf-8"))
    return {key: about[key] for key in ("S", "eta", "seeds", "cell")}


def slider(name: str, key: str, label: str) -> str:
    """A slider whose stops are the values of the grid, written below it."""
    values, number = grid()[key], f"{name}-{key}"
    stops = "".join(f'<option value="{i}" label="{value:g}"></option>' for i, value in enumerate(values))
    return f"""\
<label for="{number}">{label}</label>
<div><input type="range" id="{number}" list="{number}-stops" max="{len(values) - 1}" value="{values.index(START[key])}">
<datalist aria-hidden="true" id="{number}-stops">{stops}</datalist></div>
"""


def part(sheet: str, eta: float) -> str:
    """The rows of one eta: as wide as the sheet, and as much of its height as shows them."""
    steps, etas, seeds, (height, width) = grid().values()
    ratio = f"{len(seeds) * width} / {len(steps) * height}"
    place = f"0 {100 * etas.index(eta) / (len(etas) - 1):g}%"
    return f"""\
<img src="{sheet}" loading="lazy" alt="Digits sampled with η = {eta:g}: a row for each S."
style="aspect-ratio: {ratio}; object-fit: cover; object-position: {place}">
"""


def visit_explorer(self: HTML5Translator, node: Explorer) -> None:
    """Write the sliders, hidden until the script comes, and the parts of the sheet that it replaces."""
    sheet = relative_uri(self.builder.get_target_uri(self.builder.current_docname), SHEET)
    steps, etas, seeds, (height, width) = grid().values()
    digits = f'<canvas width="{width}" height="{height}"></canvas>' * len(seeds)
    below = f"From top to bottom S = {', '.join(map(str, steps))}; left η = {etas[0]:g}, right η = {etas[-1]:g}."
    self.body.append(f"""\
<div class="explorer" data-sheet="{sheet}" data-grid="{escape(json.dumps(grid()))}">
<div class="explorer-live" hidden>
<div class="explorer-sliders">
{slider(node["name"], "S", "steps <i>S</i>")}{slider(node["name"], "eta", "fresh noise <i>η</i>")}</div>
<div class="explorer-digits" role="img" aria-label="Digits">{digits}</div>
<output aria-live="polite"></output>
</div>
<figure class="explorer-static">
<div class="explorer-parts">{part(sheet, etas[0])}{part(sheet, etas[-1])}</div>
<figcaption>Digits sampled by the network; a column is one starting point. {below}</figcaption>
</figure>
""")


def depart_explorer(self: HTML5Translator, node: Explorer) -> None:
    """Close what ``visit_explorer`` opened."""
    self.body.append("</div>\n")


def add_files(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Let the pages that have an explorer, and no others, load its script and its style sheet."""
    if 'class="explorer"' in context.get("body", ""):
        app.add_js_file("explorer/explorer.js", loading_method="defer")
        app.add_css_file("explorer/explorer.css")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_node(Explorer, html=(visit_explorer, depart_explorer))
    app.add_directive("explorer", ExplorerDirective)
    app.connect("html-page-context", add_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
