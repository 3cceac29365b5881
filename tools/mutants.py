"""Change the modules that carry a formula, one small change at a time, and ask whether a test notices: `make mutants`.

mutmut does it for the code in functions, in a process that has loaded everything once and forks for every mutant. What
it passes over, the code that runs when a module is imported and functions with a decorator, is changed here with its
own operators: the module is written anew for every mutant, and its tests run in a fork that has not loaded it yet.
Stopped and called again, the run goes on; where code, tests or settings have changed, it starts afresh.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import libcst as cst
import pytest
from mutants_report import MODULES, RESULT, ROOT, SETTINGS, TESTS, Mutant, problems, read_reasons, report, table
from mutmut.mutation import file_mutation
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.mutation.pragma_handling import get_ignored_lines
from mutmut.stats import status_by_exit_code
from mutmut.utils.format_utils import orig_function_and_class_names_from_key

WORK = ROOT / "mutants"  # mutmut's folder; its name is fixed
TREE = WORK / "in_place"
NOTES = WORK / "in_place.json"
VERDICTS = {"killed": "killed", "timeout": "timed_out", "survived": "survived", "no tests": "survived"}


def main() -> int:
    """Run all mutants, write the result, print it; 1 where it falls short."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=1, help="mutants of mutmut at a time (default: 1)")
    workers = parser.parse_args().workers
    os.chdir(ROOT)
    check_names()
    forget_what_is_stale()
    subprocess.run([sys.executable, "-m", "mutmut", "run", "--max-children", str(workers)], check=True)
    mutants = [mutant for module in MODULES for mutant in (*of_mutmut(module), *in_place(module))]
    reasons = read_reasons()
    result = report(mutants, reasons, f"mutmut {version('mutmut')}")
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result), *problems(result, reasons), sep="\n")
    return bool(problems(result, reasons))


def forget_what_is_stale() -> None:
    """Remove the verdicts that were reached with other code, other tests or other settings."""
    files = [*ROOT.glob("ddim_lib/*.py"), *ROOT.glob("tests/*.py"), ROOT / "pyproject.toml", Path(__file__)]
    state = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()
    note = WORK / "state"
    if not note.exists() or note.read_text() != state:
        shutil.rmtree(WORK, ignore_errors=True)
        WORK.mkdir()
        note.write_text(state)


def of_mutmut(module: str) -> Iterator[Mutant]:
    """The verdicts that mutmut left in its folder."""
    path = Path("ddim_lib") / f"{module}.py"
    data = SourceFileMutationData(path=path)
    data.load()
    for name, code in data.exit_code_by_key.items():
        status = status_by_exit_code[code]
        if status not in VERDICTS:
            raise RuntimeError(f"{name} is {status!r} (exit status {code}); call the command again")
        function, cls = orig_function_and_class_names_from_key(name)
        change = one_line(get_diff_for_mutant(name, path=path).splitlines())
        yield Mutant(module, f"{f'{cls}.' if cls else ''}{function}: {change}", VERDICTS[status])


def one_line(diff: list[str]) -> str:
    """What a unified diff takes away, and what it puts there."""
    old, new = (" ".join(line[1:].strip() for line in diff[2:] if line.startswith(sign)).strip() for sign in ("-", "+"))
    return f"{old} -> {new}"


class EveryNode(file_mutation.MutationVisitor):
    """mutmut's choice of what to mutate, and functions with a decorator as well."""

    def _skip_node_and_children(self, node: cst.CSTNode) -> bool:
        return not isinstance(node, cst.FunctionDef) and super()._skip_node_and_children(node)


def passed_over(module: str) -> Iterator[tuple[str, str]]:
    """(change, code of the whole module) of every mutant that mutmut does not make itself."""
    path = ROOT / "ddim_lib" / f"{module}.py"
    source = path.read_text()
    wrapper = cst.MetadataWrapper(cst.parse_module(source))
    ignored = get_ignored_lines(str(path), source, wrapper, None)
    usual, every = (
        kind(file_mutation.mutation_operators, ignored) for kind in (file_mutation.MutationVisitor, EveryNode)
    )
    for visitor in (usual, every):
        wrapper.visit(visitor)
    made = {
        id(one.original_node)
        for one in usual.mutations
        if isinstance(one.contained_by_top_level_function, cst.FunctionDef)
    }
    for one in every.mutations:
        if id(one.original_node) not in made:
            code = file_mutation.deep_replace(wrapper.module, one.original_node, one.mutated_node).code
            outer = one.contained_by_top_level_function
            where = outer.name.value if isinstance(outer, cst.FunctionDef) else "module"
            yield f"{where}: {one_line(list(difflib.unified_diff(source.splitlines(), code.splitlines(), n=0)))}", code


def in_place(module: str) -> Iterator[Mutant]:
    """Write the module anew for each mutant that mutmut passes over, and run the tests that carry its name."""
    todo = list(passed_over(module))
    notes = json.loads(NOTES.read_text()) if NOTES.exists() else {}
    tests = [test for test in TESTS if Path(test).stem.startswith(f"test_{module}")]
    if not all(f"{module} {code}" in notes for _, code in todo):
        lay_tree()
        began = time.monotonic()
        if verdict(module, (ROOT / "ddim_lib" / f"{module}.py").read_text(), tests, 600) != "survived":
            raise RuntimeError(f"{' '.join(tests)} must pass before {module} is changed")
        limit = 20 + int(5 * (time.monotonic() - began))
    for number, (change, code) in enumerate(todo, start=1):
        key = f"{module} {code}"
        if key not in notes:
            notes[key] = verdict(module, code, tests, limit)
            NOTES.write_text(json.dumps(notes))
            print(f"{module}, in place: {number}/{len(todo)} {notes[key]}", flush=True)
        yield Mutant(module, change, notes[key])


def lay_tree() -> None:
    """A copy of the library and its tests, and everything else that they load, loaded once."""
    shutil.rmtree(TREE, ignore_errors=True)
    for folder in ("ddim_lib", "tests"):
        shutil.copytree(ROOT / folder, TREE / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", TREE)
    importlib.import_module("ddim_lib.__main__")
    importlib.import_module("ddim_lib.proofs")


def verdict(module: str, code: str, tests: list[str], limit: int) -> str:
    """What the tests say of a module of this code, within ``limit`` seconds."""
    path = TREE / "ddim_lib" / f"{module}.py"
    whole = path.read_text()
    path.write_text(code)
    Path(importlib.util.cache_from_source(path)).unlink(missing_ok=True)
    status = in_fork(lambda: run_tests(tests), limit)
    path.write_text(whole)
    # 1: a test fails; 2 to 4: the tests, pytest's set-up or conftest.py break before one runs
    found = {0: "survived", 1: "killed", 2: "killed", 3: "killed", 4: "killed", -signal.SIGALRM: "timed_out"}
    if status not in found:
        raise RuntimeError(f"{' '.join(tests)} ended with {status}; call the command again")
    return found[status]


def run_tests(tests: list[str]) -> int:
    """Forget the library that the parent process has loaded, and test the one in the tree."""
    os.chdir(TREE)
    sys.path.insert(0, str(TREE))
    for name in [name for name in sys.modules if name.partition(".")[0] == "ddim_lib"]:
        del sys.modules[name]
    return pytest.main(["-x", "-q", "--rootdir=.", *SETTINGS["pytest_add_cli_args"], *tests])


def check_names() -> None:
    """Refuse tests that pytest does not find by name in a process that has collected them before, as mutmut does.

    mutmut would take that for a test that fails, and so for a mutant that was killed. A backslash in an id is a cause.
    """

    class Names:
        def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
            self.found = [item.nodeid for item in items]

    def collect_twice() -> int:
        names, options = Names(), ["--collect-only", *SETTINGS["pytest_add_cli_args"]]
        return pytest.main([*options, *TESTS], plugins=[names]) or pytest.main([*options, *names.found])

    if in_fork(collect_twice, 600):
        raise RuntimeError("a test is not found again by its name: does its id hold a backslash?")


def in_fork(job: Callable[[], int], limit: int) -> int:
    """The exit status of a job in a silent fork, ended after ``limit`` seconds; minus the number of a signal."""
    if not (pid := os.fork()):
        status = 70
        try:
            signal.alarm(limit)
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            status = job()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    sys.exit(main())
