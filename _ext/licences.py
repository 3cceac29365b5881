"""What the built pages ship that others have made: the table on the page of licences, and the licences' full texts.

Versions and texts are read from the installed packages and from ``web/package-lock.json``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError
from web_files import FILES, WEB

NPM = "node_modules/"
TEXT = re.compile(r"(^|/)(LICENSE(\.rst|\.txt)?|ThirdPartyNotices\.txt)$")


@dataclass(frozen=True)
class Part:
    """A package of others: its name, its licence, and which files of ``_static`` are of it (patterns)."""

    name: str
    licence: str
    files: tuple[str, ...]
    use: str
    notice: str = ""  # "PACKAGE: FILE" where it comes inside another package; the file's head has version and copyright
    text: str = ""  # the package with the licence's text, if that is not the package itself

    @property
    def version(self) -> str:
        """The version that is shipped."""
        if self.notice:
            return re.search(r"\bv?(\d+\.\d+\.\d+)", head(self.notice))[1]
        locked = json.loads((WEB / "package-lock.json").read_text())["packages"]
        package = NPM + self.name.lower()
        return locked[package]["version"] if package in locked else metadata.version(self.name)

    @property
    def slug(self) -> str:
        """The name of the file with the licence's text."""
        return re.sub(r"\W+", "-", self.name.lower()) + ".txt"

    @property
    def full_text(self) -> str:
        """The licence with its copyright lines, as the package or its notice has it."""
        if self.notice:
            return f"{head(self.notice)}\n\n{terms(self.licence)}"
        local = WEB / NPM / self.name.lower() / "LICENSE"
        return local.read_text() if local.exists() else installed_text(self.text or self.name)


def shipped(package: str) -> tuple[str, ...]:
    """Patterns for the files of an npm package, from the table of what is copied into ``_static``."""
    places = [place for name, place in FILES.items() if name.startswith(NPM + package)]
    return tuple(pattern for place in places for pattern in (place, f"{place}/*"))


BOOTSTRAP = "pydata-sphinx-theme: static/scripts/bootstrap.js.LICENSE.txt"
FONT_AWESOME = "pydata-sphinx-theme: static/scripts/fontawesome.js.LICENSE.txt"
CLIPBOARD = "sphinx-copybutton: _static/clipboard.min.js"
SPHINX = ("basic.css", "doctools.js", "documentation_options.js", "language_data.js", "searchtools.js")
PARTS = (
    Part("MathJax", "Apache-2.0", ("mathjax/*",), "fonts and style sheet of the formulas"),
    Part(
        "onnxruntime-web", "MIT", shipped("onnxruntime-web"), "runs the network in the playground", text="onnxruntime"
    ),
    Part(
        "sphinx-book-theme", "BSD-3-Clause", ("styles/sphinx-book-theme.css", "scripts/sphinx-book-theme.js"), "theme"
    ),
    Part(
        "pydata-sphinx-theme",
        "BSD-3-Clause",
        ("styles/pydata-sphinx-theme.css", "styles/theme.css", "scripts/pydata-sphinx-theme.js"),
        "theme",
    ),
    Part("Bootstrap", "MIT", ("scripts/bootstrap.js",), "layout, menus", notice=BOOTSTRAP),
    Part("Font Awesome Free", "OFL-1.1, CC BY 4.0, MIT", ("vendor/fontawesome/*",), "icons", notice=FONT_AWESOME),
    Part("Sphinx", "BSD-2-Clause", (*SPHINX, "sphinx_highlight.js"), "search, keyboard"),
    Part("accessible-pygments", "BSD-3-Clause", ("pygments.css",), "colors of code"),
    Part("sphinx-copybutton", "MIT", ("copybutton*.js", "copybutton.css"), "the button that copies code"),
    Part("clipboard.js", "MIT", ("clipboard.min.js",), "the same", notice=CLIPBOARD),
    Part("sphinx-design", "MIT", ("design-tabs.js", "sphinx-design.min.css"), "style sheet"),
    Part("sphinx-togglebutton", "MIT", ("togglebutton.*",), "what folds"),
    Part("sphinx-exercise", "MIT", ("exercise.css",), "exercises and solutions"),
    Part("myst-nb", "BSD-3-Clause", ("mystnb.*.css",), "cells of notebooks"),
)


def on_pages() -> list[Part]:
    """The parts that this build ships."""
    return [part for part in PARTS if part.files]


def owner(file: str) -> str:
    """The name of the part that a file of ``_static`` belongs to, "this book" for its own, "" for none."""
    names = [part.name for part in on_pages() if any(fnmatch(file, pattern) for pattern in part.files)]
    places = [place for name, place in FILES.items() if not name.startswith(NPM)]
    own = (WEB.parent / "_static" / file).exists() or any(
        file == place or file.startswith(f"{place}/") for place in places
    )
    return next(iter(names), "this book" if own else "")


def located(package: str, wanted: re.Pattern[str]) -> list[Path]:
    """The installed files of a Python package whose path matches; raises ExtensionError if there is none."""
    found = [Path(file.locate()) for file in metadata.files(package) or [] if wanted.search(file.as_posix())]
    if not found:
        raise ExtensionError(f"the package {package} has no file like {wanted.pattern}: see _ext/licences.py")
    return found


def installed_text(package: str) -> str:
    """The licence files of a Python package, one after the other."""
    return "\n\n".join(path.read_text(encoding="utf-8") for path in located(package, TEXT))


def head(notice: str) -> str:
    """The comment with which a file begins that a package brings along."""
    package, _, file = notice.partition(": ")
    text = located(package, re.compile(re.escape(file) + "$"))[0].read_text(encoding="utf-8")
    return re.sub(r"^ *\* ?", "", text.partition("*/")[0].removeprefix("/*!"), flags=re.MULTILINE).strip()


def terms(licence: str) -> str:
    """The terms of licences whose text a notice only names: MIT as in this book's own, the OFL as matplotlib has it."""
    own = (WEB.parent / "LICENSE").read_text()
    texts = ["MIT License\n\n" + own[own.index("Permission is hereby granted") :]]
    if "OFL" in licence:
        font = located("matplotlib", re.compile("LICENSE_STIX$"))[0].read_text(encoding="utf-8")
        texts.append(font[font.index("SIL OPEN FONT LICENSE") :])
    return "\n\n".join(texts)


def table() -> str:
    """The table for the page, in MyST."""
    rows = [
        f'| {part.name} {part.version} | <a href="_static/licences/{part.slug}">{part.licence}</a> | {part.use} |'
        for part in on_pages()
    ]
    return "\n".join(["| what | licence | for |", "| --- | --- | --- |", *rows])


def fill_table(app: Sphinx, config: Config) -> None:
    """Let the page have the table as ``{{ licences }}``."""
    config.myst_substitutions["licences"] = table()


def write_texts(app: Sphinx, error: Exception | None) -> None:
    """Write the licences' texts into the built ``_static``."""
    if error or app.builder.format != "html":
        return
    folder = Path(app.outdir) / "_static" / "licences"
    folder.mkdir(parents=True, exist_ok=True)
    for part in on_pages():
        (folder / part.slug).write_text(part.full_text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("config-inited", fill_table)
    app.connect("build-finished", write_texts)
    return {"parallel_read_safe": True}
