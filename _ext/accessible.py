"""Mend in the built pages what the theme and Sphinx get wrong for readers who hear them (`make test-web`)."""

from __future__ import annotations

import re
from pathlib import Path

from pages import rewrite
from sphinx.application import Sphinx

MENDS = [
    # The name of a control must hold the text that it shows: these labels hide "Show code cell source" and "Ctrl+K".
    (re.compile(r'<summary aria-label="Toggle hidden content">'), "<summary>"),
    (re.compile(r'(<button class="[^"]*search-button-field[^>]*?) aria-label="Search"'), r"\1"),
    # The arrow that opens a branch of the contents has no name.
    (re.compile(r'<summary>(?=<span class="toctree-toggle")'), '<summary aria-label="Sections of this chapter">'),
    # The title above the contents stands in no landmark.
    (
        re.compile(r'<div class="sidebar-primary-item">(?=\s*<a class="navbar-brand logo")'),
        '<div class="sidebar-primary-item" role="banner">',
    ),
    # An entry of a bibliography is an item of its list; doc-biblioentry is deprecated.
    (re.compile(r' role="doc-biblioentry"'), ' role="listitem"'),
]
TABLE = re.compile(r"<table\b.*?</table>", re.DOTALL)
EMPTY_HEADER = re.compile(r"<th\b([^>]*)>\s*(?:<p>\s*</p>)?\s*</th>")
FIRST_CELL = re.compile(r"(<tr[^>]*>\s*)<td\b([^>]*)>(?!\s*(?:<p>\s*</p>)?\s*</td>)(.*?)</td>", re.DOTALL)


def mend_table(found: re.Match[str]) -> str:
    """Under an empty header cell, the first cells of the rows are headers: of their rows."""
    table = found[0]
    if not EMPTY_HEADER.search(table):
        return table
    rows = FIRST_CELL.sub(r'\1<th scope="row"\2>\3</th>', table)
    return EMPTY_HEADER.sub(r"<td\1></td>", rows)


def mend(page: str) -> str:
    """The page as HTML, mended; a mended page stays as it is."""
    for wrong, right in MENDS:
        page = wrong.sub(right, page)
    return TABLE.sub(mend_table, page)


def mend_pages(app: Sphinx, error: Exception | None) -> None:
    """Mend all pages of a build."""
    if error or app.builder.format != "html":
        return
    rewrite(Path(app.outdir), lambda page, name: mend(page))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("build-finished", mend_pages)
    return {"parallel_read_safe": True}
