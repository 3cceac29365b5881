"""Load ``web/search.js`` on the search page, and there only."""

from __future__ import annotations

from sphinx.application import Sphinx


def add_script(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: object) -> None:
    """Ask for the script; deferred, it runs after the scripts that it changes."""
    if pagename == "search":
        app.add_js_file("search.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("html-page-context", add_script)
    return {"parallel_read_safe": True}
