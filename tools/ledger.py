"""Write ``ledger.md``, the table of every labelled equation: ``python tools/ledger.py``.

Nothing is kept by hand. Labels are read from the chapters' text, verdicts from their executed outputs (the lines that
``ddim_lib.proofs`` prints), and library lines from comments in the library that name a label, such as ``# eq-n``.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
LABEL = r"(?:eq|def)-[a-z0-9-]+"
EQUATION = re.compile(rf"^`{{3,}}\{{(math|glue:math)\}}.*\n:label: ({LABEL})$", re.MULTILINE)
VERDICT = re.compile(rf"^({LABEL}): (.+)$", re.MULTILINE)
KINDS = {
    "definition": "definition",
    "proved symbolically": "symbolic",
    "holds at": "numeric",
    "holds by Monte Carlo": "Monte Carlo",
}
INTRODUCTION = """\
# Ledger of equations

Every labelled equation of the book: what it is, how it was checked, and the line of the library that computes it. The
page is generated from the chapters' executed outputs and from the library's source (`tools/ledger.py`); a test fails
when an equation is missing, or when a verdict is not the one that the chapter printed.

Four kinds occur. A **definition** needs no check. **Symbolic**: SymPy shows that both sides agree (or that an
inequality holds) on the whole domain of the symbols; it is also evaluated at up to 41 points of it. **Numeric**: those
evaluations alone, with 50 digits, where SymPy does not decide. **Monte Carlo**: a claim about a distribution, tested
with a fixed seed and a stated standard error. An equation is printed from the very SymPy object that was checked,
unless it is marked *typed*.
"""


@dataclass(frozen=True)
class Equation:
    """A labelled equation: its label, whether it is typed by hand in the text, and the verdicts printed on it."""

    label: str
    typed: bool
    verdicts: tuple[str, ...]

    @property
    def kind(self) -> str:
        """``"definition"``, ``"symbolic"``, ``"numeric"`` or ``"Monte Carlo"``; ``"unchecked"`` if nothing says so."""
        found = [kind for verdict in self.verdicts for start, kind in KINDS.items() if verdict.startswith(start)]
        if self.label.startswith("def-"):
            return "definition"
        return next((kind for kind in found if kind != "definition"), "unchecked")

    @property
    def verdict(self) -> str:
        """What the chapter printed on it."""
        return "; ".join(dict.fromkeys(self.verdicts)) or self.kind


def equations(notebook: NotebookNode) -> list[Equation]:
    """The labelled equations of an executed notebook, in the order of its text."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    printed = [out.text for cell in notebook.cells for out in cell.get("outputs", []) if out.output_type == "stream"]
    verdicts = defaultdict(list)
    for label, verdict in VERDICT.findall("\n".join(printed)):
        verdicts[label].append(verdict)
    return [Equation(label, kind == "math", tuple(verdicts[label])) for kind, label in EQUATION.findall(text)]


def library_lines(library: Path = ROOT / "ddim_lib") -> dict[str, list[tuple[str, int]]]:
    """Label -> the (file, line number) whose comment names it."""
    found = defaultdict(list)
    for path in sorted(library.glob("*.py")):
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            for label in re.findall(LABEL, line.partition("#")[2]):
                found[label].append((path.name, number))
    return found


def book() -> dict[Path, tuple[str, list[Equation]]]:
    """Notebook -> its title and its labelled equations, in the order of the chapters."""
    read = {path: nbformat.read(path, as_version=4) for path in sorted((ROOT / "chapters").glob("*.ipynb"))}
    return {
        path: (notebook.cells[0].source.splitlines()[0].lstrip("# "), equations(notebook))
        for path, notebook in read.items()
    }


def anchor(label: str) -> str:
    """The name of an equation's row, to which the mark beside the equation links."""
    return f"ledger-{label}"


def row(equation: Equation, lines: list[tuple[str, int]]) -> str:
    """One line of the table; the address of the repository is put in when the page is built."""
    links = [
        f'{{{{ "[{file}:{number}](" + repository + "/blob/main/ddim_lib/{file}#L{number})" }}}}'
        for file, number in lines
    ]
    typed = " (typed)" if equation.typed and equation.kind != "definition" else ""
    computed = f"; computed by {', '.join(links)}" if links else ""
    place = f'<span id="{anchor(equation.label)}"></span>'
    return f"| {place}{{eq}}`{equation.label}` `{equation.label}` | {equation.verdict}{typed}{computed} |"


def ledger() -> str:
    """The whole page."""
    lines, chapters = library_lines(), book()
    counts = Counter(equation.kind for _, found in chapters.values() for equation in found)
    summary = ", ".join(f"{counts[kind]} {kind}" for kind in [*KINDS.values(), "unchecked"] if counts[kind])
    page = [INTRODUCTION, f"{counts.total()} equations: {summary.replace('definition', 'definitions')}.\n"]
    for path, (title, found) in chapters.items():
        if found:
            page += [f"## [{title}](chapters/{path.name})\n", "| equation | check |", "| --- | --- |"]
            page += [*(row(equation, lines[equation.label]) for equation in found), ""]
    return "\n".join(page)


if __name__ == "__main__":
    (ROOT / "ledger.md").write_text(ledger())
