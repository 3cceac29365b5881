"""The ledger: no labelled equation is missing from it, unchecked, or checked by anything but the proof machinery."""

import importlib.util
import re
import sys
from collections import Counter

import nbformat
import pytest
from test_style import CHAPTERS, ROOT, code_of


def load():
    spec = importlib.util.spec_from_file_location("ledger", ROOT / "tools" / "ledger.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["ledger"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


ledger = load()
EQUATIONS = [equation for _, found in ledger.book().values() for equation in found]
LABELS = [equation.label for equation in EQUATIONS]


def notebook(*cells):
    return nbformat.v4.new_notebook(cells=list(cells))


def printing(text):
    return nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("stream", name="stdout", text=text)])


def test_the_committed_page_is_the_generated_one():
    assert (ROOT / "ledger.md").read_text() == ledger.ledger(), "run `make refresh`"


def test_the_page_names_every_labelled_equation_of_every_notebook():
    pattern = re.compile(r"^:label: (\S+)$|^\$\$ *\((\S+)\)$|\\label\{([^}]+)\}", re.MULTILINE)
    page = (ROOT / "ledger.md").read_text()
    found = []
    for path in CHAPTERS:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                found += ["".join(groups) for groups in pattern.findall(cell.source)]
    found = [label for label in found if not label.startswith("ex-")]
    assert sorted(found) == sorted(LABELS)
    assert [label for label in found if f"{{eq}}`{label}`" not in page] == []


def test_no_other_page_labels_an_equation():
    pages = [path for path in ROOT.glob("*.md") if "{math}" in path.read_text() or "\n$$ (" in path.read_text()]
    assert pages == []


def test_every_label_is_used_once():
    assert {label: count for label, count in Counter(LABELS).items() if count > 1} == {}


@pytest.mark.parametrize("equation", EQUATIONS, ids=LABELS)
def test_an_equation_is_a_definition_or_was_checked(equation):
    assert equation.kind in ledger.KINDS.values()
    if equation.label.startswith("eq-"):
        assert equation.kind != "definition"
        assert equation.verdicts


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_only_the_proof_machinery_prints_verdicts(path):
    assert re.findall(rf"""["']{ledger.LABEL}: """, code_of(path)) == []
    assert "Verdict(" not in code_of(path)


def test_every_label_that_the_library_names_is_an_equation_of_the_book():
    lines = ledger.library_lines()
    assert lines
    assert sorted(set(lines) - set(LABELS)) == []


def test_the_central_equations_are_computed_by_the_library():
    assert {"eq-m", "eq-n", "eq-update", "def-abar", "def-marginal", "eq-x0-pred"} <= set(ledger.library_lines())


def test_an_unchecked_equation_would_be_seen():
    text = nbformat.v4.new_markdown_cell("A claim\n\n```{math}\n:label: eq-claim\n1 = 2\n```\n")
    (equation,) = ledger.equations(notebook(text, printing("eq-other: proved symbolically\n")))
    assert (equation.label, equation.typed, equation.kind) == ("eq-claim", True, "unchecked")


@pytest.mark.parametrize(
    ("verdict", "kind"),
    [
        ("proved symbolically", "symbolic"),
        ("holds at 41 points, evaluated with 50 digits", "numeric"),
        ("holds by Monte Carlo, standard error 0.003, 100,000 draws, seed 0", "Monte Carlo"),
        ("definition", "unchecked"),
        ("looks right", "unchecked"),
    ],
)
def test_the_kind_is_read_from_the_printed_verdict(verdict, kind):
    text = nbformat.v4.new_markdown_cell("```{glue:math} eq-claim\n:label: eq-claim\n```")
    (equation,) = ledger.equations(notebook(text, printing(f"something else\neq-claim: {verdict}\n")))
    assert (equation.kind, equation.typed) == (kind, False)


def test_a_row_links_the_library_line():
    equation = ledger.Equation("eq-n", False, ("proved symbolically",))
    line = ledger.row(equation, [("samplers.py", 12)])
    assert "proved symbolically" in line
    assert "samplers.py#L12" in line


def test_library_lines_are_read_from_comments_only(tmp_path):
    (tmp_path / "a.py").write_text('x = "eq-n"\ny = 1  # eq-m, def-tau\n')
    assert ledger.library_lines(tmp_path) == {"eq-m": [("a.py", 2)], "def-tau": [("a.py", 2)]}
