"""What `make mutants` found, as a file of results: how many mutants are killed, and why the others change nothing."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mutmut"]
MODULES = [Path(path).stem for path in SETTINGS["only_mutate"]]
TESTS = SETTINGS["pytest_add_cli_args_test_selection"]
REASONS = ROOT / "tools" / "mutants_survivors.toml"
RESULT = ROOT / "results" / "mutants.json"
GOAL = 0.95
LEFT_OUT = [
    "docstrings, comments and type annotations, which decide nothing that a test could see",
    "what mutmut passes over: decorators, such as dataclass(frozen=True); import lines; the names of functions; the "
    "arguments of len() and isinstance(); default arguments that are no literals",
]


@dataclass(frozen=True)
class Mutant:
    """One small change of a module, and what the tests said.

    Attributes:
        module: the name of the file in ``ddim_lib``.
        change: the function and the changed lines, before and after.
        verdict: ``"killed"``, ``"timed_out"`` or ``"survived"``.
    """

    module: str
    change: str
    verdict: str


def fingerprint(module: str) -> str:
    """Changes with every character of the module."""
    return hashlib.sha256((ROOT / "ddim_lib" / f"{module}.py").read_bytes()).hexdigest()[:16]


def read_reasons(path: Path = REASONS) -> dict[tuple[str, str], str]:
    """(module, change) -> why the change changes nothing."""
    groups = tomllib.loads(path.read_text()).get("survivors", [])
    return {(group["module"], change): group["reason"] for group in groups for change in group["changes"]}


def counts(mutants: Iterable[Mutant]) -> dict[str, Any]:
    """How many mutants there are, by verdict. One that runs out of time does not count as killed."""
    verdicts = [mutant.verdict for mutant in mutants]
    found = {name: verdicts.count(name) for name in ("killed", "timed_out", "survived")}
    share = round(found["killed"] / max(1, len(verdicts)), 4)
    return {"mutants": len(verdicts), **found, "share_killed": share}


def report(mutants: list[Mutant], reasons: dict[tuple[str, str], str], tool: str) -> dict[str, Any]:
    """What is written to ``results/mutants.json``: no times and no commit, so that equal code gives an equal file."""
    by_module = {module: [mutant for mutant in mutants if mutant.module == module] for module in MODULES}
    survived = [mutant for part in by_module.values() for mutant in part if mutant.verdict == "survived"]
    return {
        "command": "make mutants",
        "tool": tool,
        "tests": TESTS,
        "left_out": LEFT_OUT,
        "total": counts(mutants),
        "modules": {module: {**counts(part), "fingerprint": fingerprint(module)} for module, part in by_module.items()},
        "survivors": [
            {"module": mutant.module, "change": mutant.change, "reason": reasons.get((mutant.module, mutant.change))}
            for mutant in survived
        ],
    }


def problems(result: dict[str, Any], reasons: dict[tuple[str, str], str]) -> list[str]:
    """What is wrong with a result, in words; nothing where it may stand."""
    parts = {**result["modules"], "all": result["total"]}.items()
    found = [f"{name}: no mutant was made" for name, part in parts if not part["mutants"]]
    found += [
        f"{name}: {part['share_killed']:.1%} of the mutants were killed, {GOAL:.0%} are asked for"
        for name, part in parts
        if part["mutants"] and part["share_killed"] < GOAL
    ]
    survivors = {(one["module"], one["change"]): one["reason"] for one in result["survivors"]}
    found += [
        f"{module} survives without a reason in {REASONS.name}: {change}"
        for (module, change), reason in survivors.items()
        if not reason
    ]
    return found + [
        f"{module} has a reason in {REASONS.name}, but does not survive: {change}"
        for module, change in reasons.keys() - survivors.keys()
    ]


def table(result: dict[str, Any]) -> str:
    """The counts, a line a module."""
    lines = [f"{'module':12}{'mutants':>9}{'killed':>9}{'timed out':>11}{'survived':>10}{'killed':>9}"]
    for name, part in [*result["modules"].items(), ("all", result["total"])]:
        numbers = f"{part['mutants']:9}{part['killed']:9}{part['timed_out']:11}{part['survived']:10}"
        lines.append(f"{name:12}{numbers}{part['share_killed']:9.1%}")
    return "\n".join(lines)
