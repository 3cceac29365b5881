"""Beside the number of each labelled equation, a mark: how it was checked. It links to the row of the ledger."""

from __future__ import annotations

import html
import re
import sys
from functools import cache
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
from ledger import Equation, anchor, book

# What Sphinx writes in front of an equation: its anchor and, before the formula, its number.
NUMBER = re.compile(r'(id="equation-([a-z0-9-]+)">\s*<span class="eqno">\([^)]*\))')


@cache
def equations() -> dict[str, Equation]:
    """Label -> equation, with what its chapter printed on it."""
    return {equation.label: equation for _, found in book().values() for equation in found}


def mark(equation: Equation, ledger: str) -> str:
    """The link, as HTML; ``ledger`` is the address of the ledger's page."""
    if equation.kind == "unchecked":
        raise ExtensionError(f"{equation.label} is neither a definition nor checked: see tools/ledger.py")
    definition = equation.kind == "definition"
    text = "def" if definition else "✓"
    name = html.escape("definition" if definition else f"checked: {equation.verdict}", quote=True)
    spoken = f"{text}: {name}" if definition else name  # begins with what is seen, for those who speak to click
    link = f'class="verdict" href="{ledger}#{anchor(equation.label)}" title="{name}" aria-label="{spoken}"'
    return f"<a {link}>{text}</a>"


def add_marks(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: object) -> None:
    """Put the marks into a page's body."""
    if app.builder.format == "html" and "body" in context:
        ledger = context["pathto"]("ledger")
        context["body"] = NUMBER.sub(lambda m: m[1] + mark(equations()[m[2]], ledger), context["body"])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("html-page-context", add_marks)
    return {"parallel_read_safe": True}
