"""The built pages of the book as one page for paper: names made unique, solutions moved to the end, no interface.

All functions work on parsed HTML and know nothing of files or browsers; ``tools/pdf.py`` puts them together. Sphinx has
a builder for single pages, but ids are unique in one source file only: every chapter has an ``id1`` and ``exercises``.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterable
from urllib.parse import urldefrag, urlparse

from bs4 import BeautifulSoup, Tag

# Nobody can press, open or follow these on paper, and it is never dark there. What waits for a script is hidden, or has
# another form in noscript.
INTERFACE = ".no-print, .headerlink, [hidden], button, script, form, dialog, summary, .dark-twin, picture > source"
# On paper these are their content: cells that the page folds away, links round pictures and to files of the site, what
# stands in for a script.
WRAPPERS = "details, a.image-reference, a[href*='_static/'], noscript"
NAMING = ("id", "for", "aria-labelledby", "aria-describedby", "aria-controls")


def page_name(path: str) -> str:
    """The prefix of a page's ids: ``chapters/03_objective.html`` is ``chapters-03_objective``."""
    return path.removesuffix(".html").replace("/", "-")


def listed_pages(index: Tag) -> dict[str, list[str]]:
    """Caption of each part -> paths of its pages, in the order of the navigation of the first page."""
    parts: dict[str, list[str]] = {}
    caption = ""
    for element in index.select("nav.bd-links .caption-text, nav.bd-links a.internal"):
        if element.name == "a":
            parts.setdefault(caption, []).append("index.html" if element["href"] == "#" else element["href"])
        else:
            caption = element.get_text()
    return parts


def drop_interface(article: Tag) -> None:
    """Remove what only works on a screen, and open what is folded away; anchors in it stay as empty elements."""
    for element in article.select(INTERFACE):
        if element.decomposed:  # with one that it stood in
            continue
        for name in [found["id"] for found in [element, *element.select("[id]")] if found.has_attr("id")]:
            element.insert_before(BeautifulSoup(f'<span id="{name}"></span>', "html.parser"))
        element.decompose()
    for element in article.select(WRAPPERS):
        element.unwrap()
    for image in article.select("img[loading]"):  # the browser would wait for someone to scroll
        del image["loading"]


def make_names_unique(article: Tag, path: str, pages: Iterable[str]) -> None:
    """Prefix every id with its page's name, and turn links between the pages into links inside the one page."""
    for attribute in NAMING:
        for element in article.select(f"[{attribute}]"):
            names = str(element[attribute]).split()
            element[attribute] = " ".join(f"{page_name(path)}.{name}" for name in names)
    for element in article.select("[href], [src]"):
        attribute = "href" if element.has_attr("href") else "src"
        element[attribute] = resolved(element[attribute], path, pages)


def resolved(address: str, path: str, pages: Iterable[str]) -> str:
    """An address on the page at ``path`` as it has to be on the one page, which lies where the first page does."""
    if urlparse(address).scheme:
        return address
    file, anchor = urldefrag(address)
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), file)) if file else path
    if target not in pages:
        return f"{target}#{anchor}" if anchor else target
    return f"#{page_name(target)}" + (f".{anchor}" if anchor else "")


def move_solutions(pages: Iterable[Tag]) -> Tag:
    """Take the solutions out of the pages into a chapter of their own; each exercise gets a link to its solution."""
    html = BeautifulSoup('<section class="page" id="solutions"><h1>Solutions</h1></section>', "html.parser")
    chapter = html.section
    for page in pages:
        solutions = page.select(".solution")
        if solutions:
            part = html.new_tag("section", id=f"solutions.{page['id']}")
            part.append(html.new_tag("h2", string=page.h1.get_text()))
            chapter.append(part)
        for solution in solutions:
            title = solution.select_one(".admonition-title")
            exercise = page.find(id=title.a["href"].removeprefix("#"))
            title.name = "h3"
            title.a.string = title.a.get_text().strip()
            title.contents[0].replace_with("Solution to ")
            link = html.new_tag("a", href=f"#{solution['id']}", string="Solution")
            there = html.new_tag("p", attrs={"class": "to-solution"})
            there.append(link)
            exercise.append(there)
            part.append(solution.extract())
    return chapter


def contents(parts: dict[str, list[Tag]]) -> Tag:
    """A table of contents of chapters and sections; the browser fills in the numbers (``web/pdf.mjs``)."""
    html = BeautifulSoup('<nav class="page book-contents" id="contents"><h1>Contents</h1></nav>', "html.parser")

    def line(heading: Tag, target: str) -> None:
        link = html.new_tag("a", href=f"#{target}", attrs={"class": f"to-{heading.name}"})
        title = html.new_tag("span")
        title.extend(BeautifulSoup(heading.decode_contents(), "html.parser").contents)
        for inner in title.select("a"):  # a link in a link
            inner.unwrap()
        link.extend([title, html.new_tag("span", attrs={"class": "number"})])
        html.nav.append(link)

    for caption, pages in parts.items():
        if caption:
            html.nav.append(html.new_tag("p", string=caption, attrs={"class": "part"}))
        for page in pages:
            line(page.h1, page["id"])
            for section in page.select("section:has(> h2)"):
                line(section.h2, section["id"])
    return html.nav


def dead_links(page: Tag) -> list[str]:
    """The links that lead nowhere or to two places: each with its text."""
    count = Counter(element["id"] for element in page.select("[id]"))
    inside = [link for link in page.select("a[href]") if not urlparse(link["href"]).scheme]
    return [
        f"{link['href']} ({link.get_text().strip()[:40]})"
        for link in inside
        if not link["href"].startswith("#") or count[link["href"][1:]] != 1
    ]
