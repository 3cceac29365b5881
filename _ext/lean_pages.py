"""Drop from the built pages what they do not use: 1.5 MB of icon script, Thebe, and the theme's source maps.

Icons come from the web font that the theme's style sheet loads anyway. Thebe (live code) is not offered, and its
settings script is emitted twice, which is an error on every page.
"""

from __future__ import annotations

import re
from pathlib import Path

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


def lighten(app: Sphinx, error: Exception | None) -> None:
    """Rewrite the HTML files and delete the files that none of them asks for any more."""
    if error or app.builder.name != "html":
        return
    out = Path(app.outdir)
    for page in out.rglob("*.html"):
        page.write_text(UNUSED.sub("", page.read_text(encoding="utf-8")), encoding="utf-8")
    for file in [*out.glob("_static/**/*.map"), *out.glob("_static/scripts/fontawesome.js")]:
        file.unlink()


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("build-finished", lighten)
    return {"parallel_read_safe": True}
