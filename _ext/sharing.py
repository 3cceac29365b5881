"""What a shared link shows of a page, the sitemap and the 404 page: all from the one address ``html: baseurl``."""

from __future__ import annotations

import html
import textwrap
from urllib.parse import urlsplit

from docutils import nodes
from plain_text import plain_text
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError

LENGTH = 200  # characters of a description, about what search engines and messengers show


def set_addresses(app: Sphinx, config: Config) -> None:
    """Hand the site's address on to the extensions; raises ExtensionError if it is none."""
    address = urlsplit(config.html_baseurl or "")
    if not (address.scheme and address.netloc and address.path.endswith("/")):
        raise ExtensionError(f"html: baseurl in _config.yml is {config.html_baseurl!r}, not like https://HOST/PATH/")
    config.ogp_site_url = config.html_baseurl
    config.notfound_urls_prefix = address.path


def description(doctree: nodes.document) -> str:
    """The first paragraph of a page as plain text, shortened; "" if there is none."""
    first = doctree.next_node(lambda node: isinstance(node, nodes.paragraph) and not is_hidden(node))
    text = plain_text(first).removeprefix("Goals. ") if first else ""
    return textwrap.shorten(text, LENGTH, placeholder=" …")


def is_hidden(node: nodes.Node) -> bool:
    """Whether a paragraph is no prose of the page: in a table, a caption or an admonition."""
    return isinstance(node.parent, (nodes.entry, nodes.figure, nodes.Admonition, nodes.list_item))


def describe(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    """Put the description among the page's tags; the extension's own would show the formulas' TeX."""
    text = description(doctree) if doctree else ""
    if text:
        context["meta"] = (context.get("meta") or {}) | {"og:description": text}
        context["metatags"] += f'<meta name="description" content="{html.escape(text, quote=True)}" />\n'


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx, in front of the extensions that use what is set here."""
    app.connect("config-inited", set_addresses, priority=400)
    app.connect("html-page-context", describe, priority=400)
    return {"parallel_read_safe": True}
