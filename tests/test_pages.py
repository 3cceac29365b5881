"""The built pages: marks, links, descriptions, licences. They are read where `make book` has put them."""

import json
import os
import re
import sys
from html import unescape
from urllib.parse import urlsplit

import pytest
import yaml
from test_book import tracked_files
from test_ledger import EQUATIONS
from test_style import ROOT

sys.path.insert(0, str(ROOT / "_ext"))
import licences
from plain_text import formula

BUILT = ROOT / "_build" / "html"
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
SITE = CONFIG["html"]["baseurl"]
CODE = {".css", ".js", ".mjs", ".wasm", ".woff", ".woff2", ".ttf"}


@pytest.fixture(scope="module")
def pages():
    """Path below the built folder -> HTML, of the pages that have a source."""
    listed = BUILT / "searchindex.js"
    if not listed.exists() and "CI" not in os.environ:
        pytest.skip("the pages are not built: run `make book`")
    names = json.loads(listed.read_text().removeprefix("Search.setIndex(").removesuffix(")"))["docnames"]
    return {f"{name}.html": (BUILT / f"{name}.html").read_text() for name in names}


def tag(page, name):
    return [unescape(found) for found in re.findall(rf'<meta (?:property|name)="{name}" content="([^"]*)"', page)]


def test_each_labelled_equation_has_a_mark_that_leads_to_its_row(pages):
    pattern = (
        r'id="equation-([\w-]+)">\s*<span class="eqno">\([\d.]+\)<a class="verdict" href="([^"]+)" title="([^"]+)"'
    )
    marks = {label: (href, title) for page in pages.values() for label, href, title in re.findall(pattern, page)}
    assert sorted(marks) == sorted(equation.label for equation in EQUATIONS)
    for equation in EQUATIONS:
        href, title = marks[equation.label]
        assert href == f"../ledger.html#ledger-{equation.label}"
        assert f'id="ledger-{equation.label}"' in pages["ledger.html"]
        assert (title == "definition") == equation.label.startswith("def-")
        assert unescape(title).removeprefix("checked: ") == equation.verdict or title == "definition"


def test_each_link_to_a_term_says_its_definition(pages):
    links = [link for page in pages.values() for link in re.findall(r"<a [^>]*glossary\.html#term[^>]*>", page)]
    assert len(links) > 30
    titles = [unescape(found[1]) if (found := re.search(r'title="([^"]+)"', link)) else "" for link in links]
    assert [link for link, title in zip(links, titles, strict=True) if len(title) < 30] == []
    assert [title for title in titles if re.search(r"\\|\$|,\s*[.,]|\s[.,]", title)] == []


@pytest.mark.parametrize(
    ("tex", "text"),
    [
        (r"\abar_t", "\u03b1\u0304_t"),
        (r"\hat x_0", "x\u0302_0"),
        (r"q(x_s \mid x_t, x_0)", "q(x_s | x_t, x_0)"),
        (r"\sqrt{1 - \abar_t}\, \epsilon", "√(1 - \u03b1\u0304_t) ε"),
        (r"\eta \sqrt{\tilde\beta}", "η √\u03b2\u0303"),
    ],
)
def test_a_formula_as_plain_text(tex, text):
    assert formula(tex) == text


def test_every_page_leads_to_the_pages_for_look_up(pages):
    for name, page in pages.items():
        up = "../" * name.count("/")
        line = page.partition('<nav class="look-up"')[2].partition("</nav>")[0]
        wanted = {"index.html", "notation.html", "glossary.html", "ledger.html", "licences.html"} - {name}
        assert set(re.findall(r'href="([^"]+)"', line)) == {up + target for target in wanted}


def test_every_page_says_what_a_shared_link_shows(pages):
    for name, page in pages.items():
        assert tag(page, "og:url") == [f"{SITE}{name}"]
        assert tag(page, "og:site_name") == [CONFIG["title"]]
        assert tag(page, "og:image") == [f"{SITE}_images/digits_by_steps.png"]
        (text,) = tag(page, "og:description")
        assert tag(page, "description") == [text]
        assert 20 < len(text) <= 200
        assert re.search(r"\\|\$|<", text) is None
    assert (BUILT / "_images" / "digits_by_steps.png").exists()


def test_the_sitemap_lists_every_page(pages):
    listed = re.findall("<loc>([^<]+)</loc>", (BUILT / "sitemap.xml").read_text())
    assert sorted(listed) == sorted(f"{SITE}{name}" for name in pages)


def test_the_404_page_works_at_any_depth(pages):
    page, prefix = (BUILT / "404.html").read_text(), urlsplit(SITE).path
    links = [unescape(link) for link in re.findall(r'(?:href|src|action)="([^"]*)"', page)]
    here = [link for link in links if not link.startswith(("#", "https://"))]
    assert len(here) > 30
    for link in here:
        assert link.startswith(prefix)
        assert (BUILT / (urlsplit(link).path.removeprefix(prefix) or "index.html")).exists(), link


def test_the_address_of_the_site_stands_in_one_place():
    assert [path.name for path in tracked_files() if SITE.encode() in path.read_bytes()] == ["_config.yml"]


def test_each_file_of_others_is_on_the_page_of_licences(pages):
    files = [path.relative_to(BUILT / "_static").as_posix() for path in (BUILT / "_static").rglob("*")]
    files = [name for name in files if "." + name.rpartition(".")[2] in CODE]
    owners = {name: licences.owner(name) for name in files}
    assert [name for name, owner in owners.items() if not owner] == []
    parts = licences.on_pages()
    assert {part.name for part in parts} == set(owners.values()) - {"this book"}
    for part in parts:
        assert f"{part.name} {part.version}" in pages["licences.html"]
        assert f'href="_static/licences/{part.slug}"' in pages["licences.html"]
        text = (BUILT / "_static" / "licences" / part.slug).read_text()
        assert text == part.full_text
        assert "Copyright" in text or "©" in text
        assert len(text) > 900


def test_a_licence_whose_text_is_missing_is_an_error():
    with pytest.raises(licences.ExtensionError, match="numpy has no file like"):
        licences.located("numpy", re.compile("no such file"))


def test_the_script_for_search_results_is_on_the_search_page_only(pages):
    assert re.search(r'<script defer="defer" src="_static/search\.js\?v=\w+">', (BUILT / "search.html").read_text())
    assert (BUILT / "_static" / "search.js").read_text() == (ROOT / "web" / "search.js").read_text()
    assert [name for name, page in pages.items() if "search.js" in page] == []
