"""The run of the notebooks cannot pass by accident: whatever is altered in them, it fails."""

import copy
import json
import sys

import nbformat
import pytest
from nbval.plugin import IPyNbCell, IPyNbFile, coalesce_streams
from test_book import READ, code_cells
from test_style import CHAPTERS, ROOT

sys.path.insert(0, str(ROOT / "tools"))
import alter_code
import alter_outputs
import alterations

each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
# Chapter -> pictures, glued formulas, cells that end in a value, ignored cells. A new one has to be entered here.
NOT_COMPARED = {
    "01_forward_process": (3, 7, 0, 0),
    "02_ddpm_posterior": (3, 7, 1, 0),
    "03_objective": (2, 8, 1, 0),
    "04_undetermined_coefficients": (3, 9, 1, 0),
    "05_ddpm_recovered": (2, 7, 0, 0),
    "06_generative_process": (2, 7, 0, 0),
    "07_shorter_sequences": (4, 9, 0, 0),
    "07b_tau_conventions": (2, 0, 0, 0),
    "08_eta_and_sigma_hat": (4, 9, 0, 0),
    "09_training": (6, 4, 0, 0),
    "10_steps_and_quality": (6, 1, 0, 1),
    "11_consistency_and_inversion": (5, 5, 0, 0),
    "12_ode_view": (7, 13, 0, 0),
    "13_cifar10": (4, 0, 0, 0),
    "90_errata": (0, 10, 0, 0),
    "91_peers": (2, 0, 0, 0),
    "92_checks": (0, 0, 0, 0),
}
DRAWINGS = {"fig-short-graph": "shows which times hang on which, and no number"}


@pytest.fixture
def items(request, monkeypatch):
    """What nbval makes of a notebook: its code cells, as `make notebooks` would run them."""
    monkeypatch.setattr(IPyNbCell, "format_output_compare", lambda *args: None)  # slow, and only words
    return lambda path: list(IPyNbFile.from_parent(request.session, path=path).collect())


def differ(item, fresh):
    """Whether nbval reports a difference between a cell's committed outputs and fresh ones."""
    committed = copy.deepcopy(item.cell.outputs)
    return not item.compare_outputs(coalesce_streams(copy.deepcopy(fresh)), coalesce_streams(committed))


# Outputs


def test_the_notebooks_are_run_with_the_options_that_are_tested_here():
    makefile = (ROOT / "Makefile").read_text().replace("\\\n\t\t", "")
    recipe = makefile.split("\nnotebooks:")[1].split("\n\n")[0]
    assert recipe.rstrip().endswith(f"--dist loadfile {alterations.OPTIONS} chapters")


@each_chapter
def test_nbval_reports_every_altered_output_and_no_other(path, items):
    altered = 0
    for item in items(path):
        if not alter_outputs.is_compared(item.cell):
            continue
        assert not differ(item, item.cell.outputs)
        for wrong in alter_outputs.wrong_outputs(item.cell.outputs):
            assert differ(item, wrong), (item.name, wrong)
            altered += 1
    assert altered > 300


@each_chapter
def test_what_nbval_does_not_compare_has_a_reason_and_is_counted(path, items):
    notebook = READ[path]
    counts = alter_outputs.not_compared(notebook)
    kinds = ("image/png", "metadata", "execution_count", alter_outputs.IGNORED)
    assert tuple(counts.get(kind, 0) for kind in kinds) == NOT_COMPARED[path.stem]
    skipped = {key for item in items(path) for key in item.parent.skip_compare}
    keys = {key for cell in code_cells(notebook) for out in cell.outputs for key in (*out, *out.get("data", {}))}
    assert keys & skipped <= alter_outputs.NOT_COMPARED.keys()
    assert all(len(reason) > 20 for reason in alter_outputs.NOT_COMPARED.values())


@each_chapter
def test_no_cell_is_skipped_and_only_the_ignored_ones_are_not_compared(path, items):
    options = [item.options for item in items(path)]
    assert not any(option["skip"] or option["check_exception"] for option in options)
    assert sum(not option["check"] for option in options) == NOT_COMPARED[path.stem][3]


@each_chapter
def test_a_formula_is_glued_under_the_name_that_is_printed_and_compared(path):
    for cell in code_cells(READ[path]):
        printed = "".join(out.text for out in cell.outputs if out.output_type == "stream")
        names = [out.metadata["scrapbook"]["name"] for out in cell.outputs if "scrapbook" in out.get("metadata", {})]
        assert all(f"{name}: " in printed for name in names)


def draws(cell):
    return any("image/png" in out.get("data", {}) for out in cell.outputs)


def nearest(cells):
    """The next code cell that draws or prints, unless a heading comes first."""
    for cell in cells:
        if cell.cell_type == "markdown" and "\n#" in "\n" + cell.source:
            return None
        if cell.cell_type == "code" and (draws(cell) or alterations.says_something(cell)):
            return cell
    return None


def test_beside_every_picture_stands_a_compared_check():
    unchecked = []
    for notebook in READ.values():
        for number, cell in enumerate(notebook.cells):
            if cell.cell_type == "code" and draws(cell):
                beside = [cell, nearest(notebook.cells[number + 1 :]), nearest(notebook.cells[:number][::-1])]
                if not any(c is not None and alterations.says_something(c) for c in beside):
                    unchecked.append(cell.metadata["mystnb"]["figure"]["name"])
    assert unchecked == list(DRAWINGS)


# Formulas


def wrong_versions(source):
    """Formula -> the lines of its wrong versions that differ from the source's."""
    found = {}
    for formula in alter_code.formulas(source):
        versions = [change.source.splitlines() for change in alter_code.alterations(source, formula)]
        found[str(formula)] = [
            new for lines in versions for new, old in zip(lines, source.splitlines(), strict=True) if new != old
        ]
    return found


def test_a_claim_is_changed_by_one_operator_root_number_sign_or_time_at_a_time():
    source = 'claim = sp.Eq(v, -sp.sqrt(alpha_bar_t) + 2)\nprint(prove("eq-v", claim))'
    assert wrong_versions(source) == {
        "prove eq-v": [
            "claim = sp.Eq(v, ((-sp.sqrt(alpha_bar_t)) - (2)))",
            "claim = sp.Eq(v, (sp.sqrt(alpha_bar_t)) + 2)",
            "claim = sp.Eq(v, -(alpha_bar_t) + 2)",
            "claim = sp.Eq(v, -sp.sqrt(alpha_bar_s) + 2)",
            "claim = sp.Eq(v, -sp.sqrt(alpha_bar_t) + 3)",
        ]
    }


def test_what_two_claims_share_is_changed_last():
    source = 'w = 2 * v\nlast = w + 1\nprove("one", sp.Gt(w, 0))\nprove("two", sp.Eq(w, last))'
    versions = wrong_versions(source)
    assert versions["prove one"][0] == 'prove("one", sp.Le(w, 0))'
    assert versions["prove two"][0] == "last = ((w) - (1))"
    assert versions["prove two"][-1] == "w = 3 * v"


def test_only_a_claim_that_nothing_else_can_change_gets_another_side():
    (version,) = wrong_versions('refute("it", claim)')["refute it"]
    assert version.startswith("refute('it', (lambda claim: claim.func(claim.lhs, claim.rhs + 1))(claim)")


def test_comparisons_that_are_printed_or_asserted_are_changed_and_choices_are_not():
    source = (
        "small = off < 1e-9\nprint(small, [x for x in y if x > 0], y[y > 0])\nassert u - v < 1\nif u > v:\n    w = 1"
    )
    assert wrong_versions(source) == {
        "check off < 1e-09": ["small = (off >= 1e-09)"],
        "check u - v < 1": ["assert ((u) + (v)) < 1"],
    }


def test_texts_seeds_sizes_and_indices_are_not_changed():
    source = 'def f(x):\n    g = torch.Generator().manual_seed(1)\n    return x[2], f"{3}", torch.randn(4, generator=g)'
    assert wrong_versions(source) == {"def f": []}


def code_cell(source, printed, **metadata):
    outputs = [nbformat.v4.new_output("stream", text=printed)] if printed else []
    return nbformat.v4.new_code_cell(source, outputs=outputs, execution_count=1, metadata=metadata)


def test_a_function_is_judged_by_the_next_two_cells_that_show_what_it_gives():
    sources = ["def f(x): return 2 * x", "y = f(1)", "print(0)", "print(y)", "z = y\nprint(z)", "print(f(2))"]
    cells = [code_cell(source, "0\n" * source.count("print")) for source in sources]
    (formula,) = alter_code.formulas(sources[0])
    assert alterations.last_judge(cells, 0, formula) == 4
    assert alterations.last_judge(cells[:3], 0, formula) is None
    cells[3].metadata.tags = [alter_outputs.IGNORED]
    assert alterations.last_judge(cells, 0, formula) is None


def test_what_is_not_noticed_is_found_and_what_is_noticed_is_not():
    weak = code_cell("def double(x):\n    return 2 * x\n\n\nprint(double(0) == 0)", "True\n")
    wrong = code_cell("print(1 < 2)", "False\n")  # as if its output had been altered by mistake
    state = code_cell("g = iter(range(9))\nnext(g)\nprint(next(g) < 5)", "True\n")
    after = code_cell("print(next(g))", "2\n")
    chapter = READ[ROOT / "chapters" / "04_undetermined_coefficients.ipynb"]
    start = next(i for i, cell in enumerate(chapter.cells) if 'prove("eq-m"' in cell.source)
    books = {
        "small": nbformat.v4.new_notebook(cells=[weak, wrong, state, after], metadata=chapter.metadata),
        "04_undetermined_coefficients": nbformat.v4.new_notebook(
            cells=chapter.cells[: start + 1], metadata=chapter.metadata
        ),
    }
    found = {}
    copies = {name: alterations.altered_copy(name, book) for name, book in books.items()}
    report = alterations.run({name: made for name, (made, _) in copies.items()})
    for name, (_, plan) in copies.items():
        verdicts = [alterations.verdict(trial, report[name][number]) for number, trial in enumerate(plan)]
        found[name] = alterations.findings(plan, verdicts)
        assert {trial.kind for trial in plan} == {"plain", "control", "output", "formula"}
    assert found["04_undetermined_coefficients"] == []
    assert found["small"] == [
        "cell 0, formula def double | line 2, column 11: 2 -> 3: passed",
        "cell 1, control: outputs differ",
        "cell 1, formula check 1 < 2 | line 1, column 6: 1 < 2 -> (1 >= 2): passed",
        "cell 1, output: passed",
    ]


# What `make alterations` wrote


@each_chapter
def test_the_results_are_those_of_todays_chapter_and_everything_was_noticed(path):
    found = json.loads(alterations.RESULTS.read_text())["chapters"].get(path.stem, {})
    notebook = READ[path]
    _, plan = alterations.altered_copy(path.stem, notebook)
    expected = alterations.summary(path.stem, notebook, plan, [""] * len(plan))
    today = ("fingerprint", "cells_with_compared_outputs", "formulas", "changes", "left_out", "not_compared")
    assert {key: found.get(key) for key in today} == {key: expected[key] for key in today}, "run `make alterations`"
    assert found["noticed"] == found["cells_with_an_output_altered"] == found["cells_with_compared_outputs"]
    assert found["caught"] >= found["formulas"]
    noticed = ("caught", "caught_by_another_formula", "no_formula_any_more")
    assert sum(found[key] for key in noticed) == found["changes"]


def test_the_results_are_of_all_chapters_and_give_the_reasons():
    found = json.loads(alterations.RESULTS.read_text())
    assert list(found["chapters"]) == [path.stem for path in CHAPTERS]
    assert found["not_compared"] == alter_outputs.NOT_COMPARED


@each_chapter
def test_every_claim_and_check_is_changed_or_left_out_for_a_reason(path):
    cells = alterations.code_cells(READ[path])
    left_out = alterations.LEFT_OUT.get(path.stem, {})
    known, formulas = set(), [(cell, formula) for cell in cells for formula in alter_code.formulas(cell.source)]
    for cell, formula in formulas:
        changes = {change.what for change in alter_code.alterations(cell.source, formula)}
        known |= {(str(formula), what) for what in changes}
        changed = alterations.changes(path.stem, cell.source, formula)
        assert changed or formula.kind == "def" or str(formula) in left_out, formula
    for formula, reasons in left_out.items():
        for what, reason in reasons.items():
            assert (formula, what) in known
            assert len(reason) > 20
