"""Wrong versions of a notebook's outputs: one digit, word, line or output changed. And what nbval does not compare."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Iterator

from nbformat import NotebookNode

IGNORED = "nbval-ignore-output"
# What nbval leaves out of its comparison, and why the book can do without. Keys of an output, or its kinds of data.
NOT_COMPARED = {
    "image/png": "pixels depend on the machine's fonts; beside each picture stands a compared check of what it shows",
    "metadata": "the name under which a formula is glued; a compared line, its verdict, begins with the same name",
    "execution_count": "counts the cells; a test demands 1, 2, 3, ...",
    "output_type": "tells a cell's value from what it displays; what either says is compared",
    "name": "stdout or stderr; nbval compares each under its own name, and a test allows stdout alone",
    IGNORED: "the cell's first line says why",
}


def is_compared(cell: NotebookNode) -> bool:
    """Whether nbval compares what a code cell puts out."""
    return bool(cell.outputs) and IGNORED not in cell.metadata.get("tags", [])


def not_compared(notebook: NotebookNode) -> dict[str, int]:
    """How often each of :data:`NOT_COMPARED` occurs in a notebook."""
    counts = Counter()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            counts[IGNORED] += IGNORED in cell.metadata.get("tags", [])
        for out in cell.get("outputs", []):
            counts.update(name for name in (*out, *out.get("data", {})) if name in NOT_COMPARED)
            counts["metadata"] -= out.get("metadata") == {}  # nothing in it
    return {name: counts[name] for name in NOT_COMPARED if counts[name]}


def texts(outputs: list[NotebookNode]) -> Iterator[tuple[NotebookNode, str]]:
    """(container, key) of every compared text of a cell's outputs."""
    for out in outputs:
        if "text" in out:
            yield out, "text"
        for kind in out.get("data", {}):
            if kind not in NOT_COMPARED:
                yield out.data, kind


def wrong_texts(text: str) -> Iterator[str]:
    """Every text with one digit, one sign, one True or False, one word, or one line changed."""
    for found in re.finditer(r"\d", text):
        yield replaced(text, found, str((int(found[0]) + 1) % 10))
    for found in re.finditer(r"(?<!\w)-(?=\d)|\b(?:True|False)\b", text):
        yield replaced(text, found, {"-": "", "True": "False", "False": "True"}[found[0]])
    for found in re.finditer(r"[^\W\d_]{2,}", text):
        yield replaced(text, found, found[0][1:])
    for found in re.finditer(r"[^\n]*\n|[^\n]+$", text):
        yield replaced(text, found, "")
        yield replaced(text, found, 2 * found[0])


def replaced(text: str, found: re.Match, new: str) -> str:
    """The text with other words in the place of those that were found."""
    return text[: found.start()] + new + text[found.end() :]


def wrong_outputs(outputs: list[NotebookNode]) -> Iterator[list[NotebookNode]]:
    """Every list of outputs with one text altered, one output left out, or one given twice."""
    for number, (holder, key) in enumerate(texts(outputs)):
        for wrong in wrong_texts(holder[key]):
            altered = copy.deepcopy(outputs)
            there, key = list(texts(altered))[number]
            there[key] = wrong
            yield altered
    for number, out in enumerate(outputs):
        yield copy.deepcopy(outputs[:number] + outputs[number + 1 :])
        yield copy.deepcopy([*outputs, out])
