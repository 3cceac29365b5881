"""Plain text of a piece of a page, for what holds no formulas: the title of a link, the description of a page."""

from __future__ import annotations

import re
import unicodedata

from docutils import nodes
from sphinx.addnodes import pending_xref

ACCENTS = {"hat": "\N{COMBINING CIRCUMFLEX ACCENT}", "tilde": "\N{COMBINING TILDE}", "bar": "\N{COMBINING MACRON}"}
SIGNS = {
    "sqrt": "√",
    "nabla": "∇",
    "dots": "…",
    "mid": "|",
    "times": "×",
    "le": "≤",
    "ge": "≥",
    "to": "→",
    "infty": "∞",
    "log": "log",
}
# What stands for something that plain text cannot hold: the number of an equation, a citation.
DROPPED = (nodes.citation_reference, nodes.footnote_reference, nodes.image, nodes.system_message)


def letter(name: str) -> str:
    r"""The character of a TeX command such as ``\alpha``; the command's own name where there is none."""
    if name in SIGNS:
        return SIGNS[name]
    try:
        return unicodedata.lookup(f"GREEK SMALL LETTER {name}")
    except KeyError:
        return name


def formula(tex: str) -> str:
    r"""TeX in characters: ``\hat x_0`` becomes x̂_0. For short formulas: braces and spaces are dropped."""
    text = re.sub(r"\\sqrt\{([^{}]* [^{}]*)\}", r"\\sqrt(\1)", tex.replace(r"\abar", r"\bar\alpha"))
    text = re.sub(r"\\[,;:! ]|[{}]", "", text)
    text = re.sub(r"\\(hat|tilde|bar)\s*(?:\\([A-Za-z]+)|(\w))", lambda m: accented(m[1], m[2], m[3]), text)
    text = re.sub(r"\\([A-Za-z]+)", lambda m: letter(m[1]), text)
    return " ".join(text.split())


def accented(accent: str, command: str | None, character: str | None) -> str:
    """A letter with its accent."""
    return (letter(command) if command else str(character)) + ACCENTS[accent]


def plain_text(node: nodes.Node) -> str:
    """The text of a node, with formulas in characters and without references to equations and works."""
    text = re.sub(r"\(\s*\)|\(chapter \d+\)", "", " ".join(pieces(node).split()))
    return re.sub(r"[\s,]+(?=[.,:;)])", "", text)


def pieces(node: nodes.Node) -> str:
    """The text of a node as it comes."""
    if isinstance(node, nodes.math):
        return formula(node.astext())
    if isinstance(node, nodes.Text):
        return node.astext()
    if isinstance(node, DROPPED) or is_number_or_citation(node):
        return ""
    return "".join(pieces(child) for child in node.children)


def is_number_or_citation(node: nodes.Node) -> bool:
    """Whether a node is a reference to an equation or to a work, resolved or not."""
    if isinstance(node, pending_xref):
        return node["reftype"] in ("eq", "cite", "p", "t")
    return isinstance(node, nodes.reference) and "equation-" in node.get("refid", node.get("refuri", ""))
