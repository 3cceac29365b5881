"""Show that the run of the notebooks cannot pass by accident: ``python tools/alterations.py [CHAPTER ...]``.

Of each chapter a copy is made and run as ``make notebooks`` runs the chapter. In the copy one output of every cell is
altered, and before each cell stand wrong versions of its formulas, with the true outputs, which leave no trace. All of
these must fail; the cells as they are, executed in the same way, must pass. ``results/alterations.json`` holds the
counts; ``tools/left_out.yaml`` says which changes are not tried, and why.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import alter_code
import alter_outputs
import nbformat
import yaml
from alter_code import Alteration, Formula
from altered import NEXT_CELL
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "alterations.json"
# Those of `make notebooks`, as a test demands.
OPTIONS = "--nbval --nbval-current-env --nbval-cell-timeout 120 -W default -p no:cacheprovider"
LEFT_OUT = yaml.safe_load((ROOT / "tools" / "left_out.yaml").read_text())  # chapter -> formula -> change -> reason
CHANGES = 2  # of each formula but a check
JUDGES = 2  # cells, at most, whose outputs are compared after a function was changed
# Of changes after which there is no formula any more, right or wrong.
BROKEN = ("TypeError", "NameError", "AttributeError", "UnboundLocalError", "KeyError", "IndexError", "SyntaxError")
BROKEN += ("ValueError", "ChildProcessError")


@dataclass(frozen=True)
class Trial:
    """A code cell of an altered copy: what it tries, which cell of the chapter it is made of, and by which change."""

    kind: str  # "plain" and "control" must pass, "output" and "formula" must fail
    cell: int
    alteration: Alteration | None = None


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The code cells of a notebook, without the first, which pages do not show."""
    return [c for c in notebook.cells if c.cell_type == "code" and "remove-cell" not in c.metadata.get("tags", [])]


def says_something(cell: NotebookNode) -> bool:
    """Whether a cell has a compared output other than the size of a figure."""
    return alter_outputs.is_compared(cell) and not all("image/png" in out.get("data", {}) for out in cell.outputs)


def last_judge(cells: list[NotebookNode], start: int, formula: Formula) -> int | None:
    """The last of the cells that are to show that a formula of cell ``start`` was changed; None if no output can."""
    if not formula.writes:
        return start
    tainted, found = set(formula.writes), []
    for number, cell in enumerate(cells[start:], start=start):
        if alter_outputs.IGNORED in cell.metadata.get("tags", []):
            break
        shows = False
        for statement in ast.parse(cell.source).body:
            if alter_code.reads(statement) & tainted:
                tainted |= alter_code.writes(statement)
                shows |= not isinstance(statement, ast.FunctionDef)
        if shows and says_something(cell):
            found.append(number)
    return found[:JUDGES][-1] if found else None


def trial_cell(source: str, cells: list[NotebookNode]) -> NotebookNode:
    """A cell that executes a source in place of that of the first cell, then the others, and expects their outputs."""
    sources = [source, *(cell.source for cell in cells[1:])]
    made = nbformat.v4.new_code_cell("%%altered\n" + NEXT_CELL.join(sources), execution_count=1)
    made.outputs = copy.deepcopy([out for cell in cells for out in cell.outputs])
    return made


def changes(chapter: str, source: str, formula: Formula) -> list[Alteration]:
    """The changes of a formula that are tried."""
    left_out = LEFT_OUT.get(chapter, {}).get(str(formula), {})
    found = [change for change in alter_code.alterations(source, formula) if change.what not in left_out]
    return found[: 1 if formula.kind == "check" else CHANGES]


def trials(chapter: str, cells: list[NotebookNode], number: int) -> list[tuple[Trial, NotebookNode]]:
    """The cells that an altered copy has before cell ``number``, and that cell with an altered output."""
    cell, found, judged = cells[number], [], cells[number:number]
    for formula in alter_code.formulas(cell.source):
        last = last_judge(cells, number, formula)
        if last is not None and (altered := changes(chapter, cell.source, formula)):
            these = cells[number : last + 1]
            judged = max(judged, these, key=len)
            found += [(Trial("formula", number, change), trial_cell(change.source, these)) for change in altered]
    if judged:
        found.insert(0, (Trial("control", number), trial_cell(cell.source, judged)))
    itself, kind = copy.deepcopy(cell), "plain"
    if alter_outputs.is_compared(cell):
        itself.outputs, kind = next(alter_outputs.wrong_outputs(cell.outputs)), "output"
    return [*found, (Trial(kind, number), itself)]


def altered_copy(chapter: str, notebook: NotebookNode) -> tuple[NotebookNode, list[Trial]]:
    """The altered copy of a chapter, and what each of its code cells tries."""
    cells = code_cells(notebook)
    plan = [(Trial("plain", -1), nbformat.v4.new_code_cell("%load_ext altered", execution_count=1))]
    plan += [pair for number in range(len(cells)) for pair in trials(chapter, cells, number)]
    made = nbformat.v4.new_notebook(cells=[cell for _, cell in plan], metadata=notebook.metadata)
    for number, cell in enumerate(made.cells):
        cell.id = f"cell-{number}"
    return made, [trial for trial, _ in plan]


def run(copies: dict[str, NotebookNode]) -> dict[str, dict[int, str]]:
    """Run notebooks as `make notebooks` does: name -> {number of the code cell: why it failed, or an empty string}."""
    with tempfile.TemporaryDirectory() as folder:
        for path in ROOT.iterdir():
            if path.name != "chapters":
                (Path(folder) / path.name).symlink_to(path)
        chapters, report = Path(folder) / "chapters", Path(folder) / "report.xml"
        chapters.mkdir()
        for name, notebook in copies.items():
            nbformat.write(notebook, chapters / f"{name}.ipynb")
        paths = os.pathsep.join([str(ROOT / "tools"), *filter(None, [os.environ.get("PYTHONPATH")])])
        command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-r", "N", "--color=no", f"--junitxml={report}"]
        command += ["-n", os.environ.get("WORKERS", "1"), "--dist", "loadfile", *OPTIONS.split(), "chapters"]
        environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}  # a fork has one thread
        subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=False)
        return read_report(report)


def read_report(report: Path) -> dict[str, dict[int, str]]:
    """What pytest's report says of each code cell of each notebook."""
    found = defaultdict(dict)
    for case in ET.parse(report).iter("testcase"):
        name = re.search(r"(\w+)(?:\.ipynb)?$", case.get("classname"))[1]
        failure = case.find("failure")
        error = case.find("error")
        text = "" if failure is None else failure.text
        found[name][int(case.get("name").removeprefix("Cell "))] = text if error is None else "ERROR " + error.text
    return dict(found)


def verdict(trial: Trial, text: str) -> str:
    """What pytest's report on a cell means: "passed", "outputs differ", "caught", "elsewhere", "broken" or "failed"."""
    if not text or "Cell outputs differ" in text:
        return "passed" if not text else "outputs differ"
    raised = re.findall(r"Altered: (\w+): (.*)", re.sub(r"(\x1b|#x1B)\[[\d;]*m", "", text))
    if not raised or trial.alteration is None:
        return "failed"
    error, message = raised[-1]
    formula = trial.alteration.formula
    if formula.kind in alter_code.CLAIMS and re.match(r"(.+) is wrong:|(.+) is not refuted", message):
        return (
            "caught"
            if formula.name.startswith("labelled ") or message.startswith(f"{formula.name} is ")
            else "elsewhere"
        )
    return "broken" if error in BROKEN else "caught"


def findings(plan: list[Trial], verdicts: list[str]) -> list[str]:
    """What speaks against the chapter, or against this tool: changes that no one noticed, true cells that fail."""
    allowed = {"plain": ["passed"], "control": ["passed"], "output": ["outputs differ"]}
    allowed["formula"] = ["outputs differ", "caught", "elsewhere", "broken"]
    pairs = list(zip(plan, verdicts, strict=True))
    noticed = [trial for trial, said in pairs if trial.alteration and said in ("outputs differ", "caught")]
    caught = {(trial.cell, str(trial.alteration.formula)) for trial in noticed}
    found = []
    for trial, said in pairs:
        about = f"cell {trial.cell}, {trial.kind}"
        if trial.alteration:
            about += f" {trial.alteration.formula} | {trial.alteration.what}"
        if said not in allowed[trial.kind]:
            found.append(f"{about}: {said}")
        elif trial.alteration and (trial.cell, str(trial.alteration.formula)) not in caught:
            found.append(f"{about}: not caught by the formula itself ({said})")
    return found


def fingerprint(notebook: NotebookNode) -> str:
    """SHA-256 over the code of a chapter's cells and their compared outputs."""
    seen = [[c.source, [holder[key] for holder, key in alter_outputs.texts(c.outputs)]] for c in code_cells(notebook)]
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()


def summary(chapter: str, notebook: NotebookNode, plan: list[Trial], verdicts: list[str]) -> dict:
    """What ``results/alterations.json`` says of a chapter."""
    outputs = [said for trial, said in zip(plan, verdicts, strict=True) if trial.kind == "output"]
    changed = Counter(said for trial, said in zip(plan, verdicts, strict=True) if trial.kind == "formula")
    return {
        "fingerprint": fingerprint(notebook),
        "cells_with_compared_outputs": sum(map(alter_outputs.is_compared, code_cells(notebook))),
        "cells_with_an_output_altered": len(outputs),
        "noticed": outputs.count("outputs differ"),
        "formulas": len({(trial.cell, str(trial.alteration.formula)) for trial in plan if trial.alteration}),
        "changes": changed.total(),
        "caught": changed["caught"] + changed["outputs differ"],
        "caught_by_another_formula": changed["elsewhere"],
        "no_formula_any_more": changed["broken"],
        "left_out": LEFT_OUT.get(chapter, {}),
        "not_compared": alter_outputs.not_compared(notebook),
    }


def main(names: list[str]) -> int:
    """Try the named chapters, or all of them; where all is well, write the counts."""
    read = {path.stem: nbformat.read(path, as_version=4) for path in sorted((ROOT / "chapters").glob("*.ipynb"))}
    made = {name: altered_copy(name, read[name]) for name in names or read}
    report = run({name: notebook for name, (notebook, _) in made.items()})
    known = json.loads(RESULTS.read_text())["chapters"] if RESULTS.exists() else {}
    bad = 0
    for name, (_, plan) in made.items():
        verdicts = [verdict(trial, report[name][number]) for number, trial in enumerate(plan)]
        found = findings(plan, verdicts)
        print(*(f"{name}: {line}" for line in found), sep="\n")
        bad += len(found)
        known[name] = summary(name, read[name], plan, verdicts)
    if not bad:
        written = {"command": "make alterations", "not_compared": alter_outputs.NOT_COMPARED}
        written["chapters"] = {name: known[name] for name in read if name in known}
        RESULTS.write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
