"""Cut the theme's icons down to those that the book shows: a few hundred kilobytes less before a page has its icons.

The theme brings all of Font Awesome: 2,000 icons, of which the pages use about twenty. Its licence (SIL OFL) wants
another name for a changed font.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pydata_sphinx_theme
from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont
from sphinx.application import Sphinx

THEME = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme" / "static"
SHEET = Path("styles") / "pydata-sphinx-theme.css"
FONTS = Path("vendor") / "fontawesome" / "webfonts"
RULE = re.compile(r'((?:\.fa-[\w-]+:before,?)+)\{content:"\\[0-9a-f]+"\}')
CHARACTER = re.compile(r'"\\([0-9a-f]{2,5})"')
SOURCES = re.compile(r'url\((\S+?)\.woff2\) format\("woff2"\),url\(\S+?\.ttf\) format\("truetype"\)')


def names_in(out: Path) -> set[str]:
    """The classes fa-... in the pages and scripts of the book."""
    files = [*out.rglob("*.html"), *out.glob("_static/**/*.js")]
    return {name for file in files for name in re.findall(r"\bfa-[\w-]+", file.read_text(encoding="utf-8"))}


def cut_sheet(css: str, names: set[str]) -> str:
    """The style sheet without the rules of icons that no page names, and with the cut fonts."""

    def rule(found: re.Match[str]) -> str:
        return found[0] if names.intersection(re.findall(r"fa-[\w-]+", found[1])) else ""

    css = SOURCES.sub(r'url(\1.woff) format("woff")', RULE.sub(rule, css))
    return css.replace("Font Awesome", "Book Icons")


def cut_font(source: Path, target: Path, characters: set[int]) -> None:
    """Write those characters of a font, as WOFF and without its names."""
    options = Options()
    options.flavor, options.name_IDs = "woff", []
    font, subsetter = TTFont(source, recalcTimestamp=False), Subsetter(options)
    subsetter.populate(unicodes=characters)
    subsetter.subset(font)
    font.flavor = "woff"
    font.save(target)


def cut_icons(app: Sphinx, error: Exception | None) -> None:
    """Cut the style sheet and the fonts of the built book, from the theme's own files."""
    if error or app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    css = cut_sheet((THEME / SHEET).read_text(encoding="utf-8"), names_in(Path(app.outdir)))
    (static / SHEET).write_text(css, encoding="utf-8")
    sheets = [file.read_text(encoding="utf-8") for file in static.rglob("*.css")]
    characters = {int(code, 16) for sheet in sheets for code in CHARACTER.findall(sheet)}
    for source in (THEME / FONTS).glob("*.ttf"):
        cut_font(source, static / FONTS / f"{source.stem}.woff", characters)
    for full in [*(static / FONTS).glob("*.ttf"), *(static / FONTS).glob("*.woff2")]:
        full.unlink()


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx; after lean_pages, which removes the icons' script."""
    logging.getLogger("fontTools").setLevel(logging.WARNING)
    app.connect("build-finished", cut_icons, priority=900)
    return {"parallel_read_safe": True}
