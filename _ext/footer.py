"""At the foot of every page, links to the pages for look-up: on a phone the menu that lists them is folded away."""

from __future__ import annotations

from sphinx.application import Sphinx

PAGES = {
    "index": "First page",
    "notation": "Notation",
    "glossary": "Glossary",
    "ledger": "Ledger of equations",
    "licences": "Licences",
}


def add_links(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: object) -> None:
    """Fill the place that the theme keeps for a line of one's own."""
    links = [f'<a href="{context["pathto"](page)}">{name}</a>' for page, name in PAGES.items() if page != pagename]
    context["theme_extra_footer"] = f'<nav class="look-up" aria-label="Look up">{" ".join(links)}</nav>'


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("html-page-context", add_links)
    return {"parallel_read_safe": True}
