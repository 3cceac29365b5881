"""Give each link to a term of the glossary its definition as a title, which a browser shows on hover."""

from __future__ import annotations

from docutils import nodes
from plain_text import plain_text
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

PAGE = "glossary"


def definitions(env: BuildEnvironment) -> dict[str, str]:
    """Anchor of a term -> its definition as plain text."""
    found = {}
    for item in env.get_doctree(PAGE).findall(nodes.definition_list_item):
        for term in item.findall(nodes.term):
            found |= dict.fromkeys(term["ids"], plain_text(next(item.findall(nodes.definition))))
    return found


def add_titles(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Set the titles of a page's links to terms."""
    links = [node for node in doctree.findall(nodes.reference) if node.next_node(is_term)]
    known = definitions(app.env) if links else {}
    for link in links:
        link["reftitle"] = known[link.get("refid") or link["refuri"].partition("#")[2]]


def is_term(node: nodes.Node) -> bool:
    """Whether a node is the text of a link that the role ``term`` made."""
    return isinstance(node, nodes.inline) and "std-term" in node["classes"]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("doctree-resolved", add_titles)
    return {"parallel_read_safe": True}
