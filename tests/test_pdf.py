"""The book on paper: the parts of tools/one_page.py, and a small book printed."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from test_style import ROOT

BROWSER = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
PATHS = ["index.html", "chapters/01_a.html", "chapters/02_b.html"]


@pytest.fixture(scope="module")
def one_page():
    sys.path.insert(0, str(ROOT / "tools"))
    yield importlib.import_module("one_page")
    sys.path.remove(str(ROOT / "tools"))


def parsed(html):
    return BeautifulSoup(html, "html.parser")


def exercise(number, answer):
    return f"""
<div class="exercise admonition" id="ex-{number}"><p class="admonition-title">Exercise {number}</p></div>
<div class="solution dropdown admonition" id="chapters/sol-{number}">
<p class="admonition-title">Solution to<a href="#ex-{number}"> Exercise {number} (Short)</a></p>
<section id="solution-content"><p>{answer}</p><div class="cell"><pre>print({number})</pre></div></section></div>"""


def test_the_pages_come_in_the_order_of_the_navigation_with_their_parts(one_page):
    index = parsed("""<nav class="bd-links"><a class="internal" href="#">Book</a>
<p class="caption"><span class="caption-text">First</span></p><ul><li>
<a class="internal" href="chapters/01_a.html">A</a><ul>
<li><a class="internal" href="chapters/02_b.html">B</a></li></ul></li></ul></nav>""")
    assert one_page.listed_pages(index) == {"": ["index.html"], "First": PATHS[1:]}


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("#id1", "#chapters-01_a.id1"),
        ("02_b.html#id1", "#chapters-02_b.id1"),
        ("02_b.html", "#chapters-02_b"),
        ("../index.html#x", "#index.x"),
        ("../_images/p.png", "_images/p.png"),
        ("../genindex.html#x", "genindex.html#x"),
        ("mailto:someone", "mailto:someone"),
    ],
)
def test_addresses_on_a_page_become_addresses_on_the_one_page(one_page, address, expected):
    assert one_page.resolved(address, "chapters/01_a.html", PATHS) == expected


def test_the_same_id_on_two_pages_stays_two_ids(one_page):
    pages = [parsed('<h2 id="exercises" aria-labelledby="a b">E</h2><a href="#exercises">E</a>') for _ in PATHS]
    for path, page in zip(PATHS, pages, strict=True):
        one_page.make_names_unique(page, path, PATHS)
    assert str(pages[1].h2) == (
        '<h2 aria-labelledby="chapters-01_a.a chapters-01_a.b" id="chapters-01_a.exercises">E</h2>'
    )
    assert one_page.dead_links(parsed("".join(map(str, pages)))) == []


def test_what_only_works_on_a_screen_is_dropped_and_what_is_folded_is_opened(one_page):
    page = parsed("""<h2>Head<a class="headerlink" href="#h">#</a></h2>
<details><summary>Show code cell source</summary><pre>code</pre></details>
<div class="no-print"><button>Start</button><h3 id="live">Live</h3></div><div hidden>slider</div>
<noscript><img loading="lazy" src="p.png"/></noscript><a class="image-reference" href="p.png"><img src="p.png"/></a>""")
    one_page.drop_interface(page)
    assert "".join(str(page).split("\n")) == (
        '<h2>Head</h2><pre>code</pre><span id="live"></span><img src="p.png"/><img src="p.png"/>'
    )


def test_solutions_move_to_the_end_and_are_linked_both_ways(one_page):
    pages = parsed(
        f'<article id="p1"><h1>1. One</h1>{exercise("1.1", "first")}{exercise("1.2", "second")}</article>'
        '<article id="p2"><h1>2. Two</h1></article>'
        f'<article id="p3"><h1>3. Three</h1>{exercise("3.1", "third")}</article>'
    )
    chapter = one_page.move_solutions(pages.select("article"))
    assert pages.select(".solution") == []
    assert [heading.get_text() for heading in chapter.select("h1, h2, h3")] == [
        "Solutions",
        "1. One",
        "Solution to Exercise 1.1 (Short)",
        "Solution to Exercise 1.2 (Short)",
        "3. Three",
        "Solution to Exercise 3.1 (Short)",
    ]
    assert [p.get_text() for p in chapter.select("section p")] == ["first", "second", "third"]
    assert [code.get_text() for code in chapter.select(".cell")] == ["print(1.1)", "print(1.2)", "print(3.1)"]
    there = [link["href"] for link in pages.select(".exercise .to-solution a")]
    assert there == [f"#{solution['id']}" for solution in chapter.select(".solution")]
    assert [link["href"] for link in chapter.select("h3 a")] == ["#ex-1.1", "#ex-1.2", "#ex-3.1"]
    assert one_page.dead_links(parsed(str(pages) + str(chapter))) == []


def test_the_contents_list_chapters_and_sections(one_page):
    page = parsed("""<article id="p1"><section><h1>1. One</h1>
<section id="p1.s"><h2>1.1. <a href="#x">Start</a></h2><h3>Deep</h3></section></section></article>""").article
    lines = one_page.contents({"Part": [page]}).select(".part, a")
    assert [(line.get_text(), line.get("href")) for line in lines] == [
        ("Part", None),
        ("1. One", "#p1"),
        ("1.1. Start", "#p1.s"),
    ]


def test_links_to_nowhere_to_two_places_and_out_of_the_book_are_dead(one_page):
    page = parsed("""<p id="a"></p><p id="b"></p><p id="b"></p><a href="#a">good</a><a href="#b">two</a>
<a href="#c">none</a><a href="genindex.html">file</a><a href="https://example.org/#c">outside</a>""")
    assert one_page.dead_links(page) == ["#b (two)", "#c (none)", "genindex.html (file)"]


CONFIG = f"""
title: Small
only_build_toc_files: true
sphinx:
  extra_extensions: [sphinx_exercise]
  local_extensions: {{typeset: "{ROOT / "_ext"}"}}
  config:
    html_math_renderer: typeset
    mathjax3_config: {{tex: {{macros: {{}}}}}}
"""
CHAPTER = r"""# One

```{math}
:label: eq-wide
x = \alpha_1 + \alpha_2 + \alpha_3 + \alpha_4 + \alpha_5 + \alpha_6 + \alpha_7 + \alpha_8 + \alpha_9 + \alpha_{10} +
\alpha_{11} +
\alpha_{12} + \alpha_{13} + \alpha_{14} + \alpha_{15} + \alpha_{16} + \alpha_{17} + \alpha_{18} + \alpha_{19}
```

By {eq}`eq-wide`, and [the start](index.md).

## Exercises

```{exercise} Short
:label: ex-short
What is $x$?
```

```{solution} ex-short
:class: dropdown
It is {eq}`eq-wide`.
```
"""


@pytest.fixture(scope="module")
def small_book(tmp_path_factory):
    """Two pages, built as the book is."""
    folder = tmp_path_factory.mktemp("book")
    (folder / "_config.yml").write_text(CONFIG)
    (folder / "_toc.yml").write_text("format: jb-book\nroot: index\nchapters:\n  - file: one\n")
    (folder / "index.md").write_text("# Start\n\nSee {eq}`eq-wide` and [](one.md).\n")
    (folder / "one.md").write_text(CHAPTER)
    command = [Path(sys.executable).with_name("jupyter-book"), "build", "-W", "-n", "--keep-going", "--quiet", folder]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "_build" / "html"


def print_book(pages, out, **environment):
    command = [sys.executable, str(ROOT / "tools" / "pdf.py"), str(pages), str(out)]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)


def test_without_chromium_it_says_how_to_install_it(small_book, tmp_path):
    done = print_book(small_book, tmp_path / "book.pdf", CHROMIUM="/nowhere/chromium")
    assert done.returncode == 2
    assert "/nowhere/chromium does not exist" in done.stderr
    assert "apt-get install chromium" in done.stderr
    assert not (tmp_path / "book.pdf").exists()


@pytest.mark.skipif(not BROWSER and not os.environ.get("CI"), reason="no Chromium: apt-get install chromium")
def test_a_small_book_is_printed(small_book, tmp_path):
    done = print_book(small_book, tmp_path / "book.pdf")
    assert done.returncode == 0, done.stderr
    assert "5 pages" in done.stdout
    pdf = (tmp_path / "book.pdf").read_bytes()
    assert len(re.findall(rb"/Type /Page\b", pdf)) == 5  # title, contents, start, chapter, solutions
    outline = set(re.findall(rb"/Title \((.*)\)", pdf))
    assert outline >= {b"Contents", b"Start", b"One", b"Exercises", b"Solutions", rb"Solution to Exercise 1 \(Short\)"}
    assert b"/Subtype /Type3" in pdf  # MathJax's letters are text
    assert not re.search(rb"/Subtype /Image\b", pdf)
    assert not list(small_book.glob("one_page*"))


def test_a_dead_link_stops_the_printing_and_is_named(small_book, tmp_path):
    pages = shutil.copytree(small_book, tmp_path / "html")
    page = (pages / "one.html").read_text()
    (pages / "one.html").write_text(page.replace('href="#equation-eq-wide">(', 'href="#equation-eq-gone">('))
    done = print_book(pages, tmp_path / "book.pdf")
    assert done.returncode == 1
    assert "#one.equation-eq-gone" in done.stderr
