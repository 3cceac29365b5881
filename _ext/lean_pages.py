"""Drop from the built pages what they do not use: 1.5 MB of icon script, Thebe, and the theme's source maps.

Icons come from the web font that the theme's style sheet loads anyway. Thebe (live code) is not offered, and its
settings script is emitted twice, which is an error on every page. The index of the search is for the search page.

The bar at the top repeats what other parts of the page have, and the theme's scripts would serve its buttons instead
of the visible ones. They also ask how high it is: it stays, empty.
"""

from __future__ import annotations

import re
from pathlib import Path

from pages import rewrite
from sphinx.application import Sphinx

UNUSED = re.compile(
    r"""\s*<script[^>]*fontawesome\.js[^>]*></script>
      | \s*<script>const\ THEBE_JS_URL.*?</script>
      | \s*<script[^>]*sphinx-thebe\.js[^>]*></script>
      | \s*<link[^>]*sphinx-thebe\.css[^>]*/>
      | \s*<script\ type="text/x-thebe-config">.*?</script>
      | \s*<script>kernelName\ =.*?</script>""",
    re.VERBOSE | re.DOTALL,
)
BAR = re.compile(r'(<header id="pst-header"[^>]*>).*?(?=</header>)', re.DOTALL)
SEARCH = re.compile(r'\s*<script src="[^"]*(?:searchtools|language_data|searchindex)\.js"></script>')
DESIGN = re.compile(r"\s*<(?:link|script)[^>]*(?:sphinx-design\.min\.css|design-tabs\.js)[^>]*>(?:</script>)?")


def lean(page: str, name: str) -> str:
    """The page as HTML without what it does not use."""
    page = BAR.sub(r"\1", UNUSED.sub("", page))
    if name != "search.html":
        page = SEARCH.sub("", page)
    return page if 'class="sd-' in page else DESIGN.sub("", page)


def lighten(app: Sphinx, error: Exception | None) -> None:
    """Rewrite the HTML files and delete the files that none of them asks for any more."""
    if error or app.builder.name != "html":
        return
    out = Path(app.outdir)
    rewrite(out, lean)
    for pattern in ("**/*.map", "scripts/fontawesome.js", "sphinx-thebe.*"):
        for file in (out / "_static").glob(pattern):
            file.unlink()


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("build-finished", lighten)
    return {"parallel_read_safe": True}
