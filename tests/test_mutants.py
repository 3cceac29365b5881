"""The committed result of `make mutants` is that of today's code, and falls short nowhere."""

import json
import sys

import pytest
from test_style import ROOT

sys.path.insert(0, str(ROOT / "tools"))
from mutants_report import MODULES, RESULT, TESTS, Mutant, fingerprint, problems, read_reasons, report, table

RIGHT = [Mutant(module, f"f: {i} -> {i + 1}", "killed") for module in MODULES for i in range(20)]


@pytest.fixture(scope="module")
def committed():
    return json.loads(RESULT.read_text())


def test_the_modules_that_carry_a_formula_are_mutated():
    formulas = {"schedules", "forward", "samplers", "solvers", "walks", "oracle", "metrics", "proofs", "symbols"}
    assert set(MODULES) == formulas
    for module in MODULES:
        assert any(test.startswith(f"tests/test_{module}") for test in TESTS), module
    assert all((ROOT / test).is_file() for test in TESTS)


def test_the_result_is_of_todays_code(committed):
    found = {name: part["fingerprint"] for name, part in committed["modules"].items()}
    assert found == {module: fingerprint(module) for module in MODULES}, "run `make mutants`"


def test_enough_mutants_are_killed_and_every_survivor_has_its_reason(committed):
    assert problems(committed, read_reasons()) == []


def test_the_counts_add_up(committed):
    parts = committed["modules"].values()
    for key in ("mutants", "killed", "timed_out", "survived"):
        assert committed["total"][key] == sum(part[key] for part in parts)
    for part in [*parts, committed["total"]]:
        assert part["mutants"] == part["killed"] + part["timed_out"] + part["survived"]
        assert part["share_killed"] == pytest.approx(part["killed"] / part["mutants"], abs=1e-4)
    assert len(committed["survivors"]) == committed["total"]["survived"]
    assert committed["tests"] == TESTS


# What the report finds fault with


def test_nothing_is_wrong_where_all_mutants_are_killed():
    result = report(RIGHT, {}, "a tool")
    assert problems(result, {}) == []
    assert table(result).splitlines()[-1].split() == ["all", "180", "180", "0", "0", "100.0%"]


def test_a_survivor_needs_a_reason_and_a_reason_a_survivor():
    mutants = [*RIGHT, Mutant("forward", "f: a -> b", "survived")]
    missing, idle = problems(report(mutants, {}, ""), {("walks", "g: c -> d"): "why"})
    assert missing.startswith("forward survives without a reason")
    assert missing.endswith("f: a -> b")
    assert idle.startswith("walks has a reason")
    assert idle.endswith("does not survive: g: c -> d")
    reasons = {("forward", "f: a -> b"): "why"}
    assert problems(report(mutants, reasons, ""), reasons) == []


@pytest.mark.parametrize("verdict", ["timed_out", "survived"])
def test_less_than_95_percent_in_one_module_is_too_little(verdict):
    reasons = {("forward", f"g: {i}"): "why" for i in range(2)} if verdict == "survived" else {}
    mutants = [*RIGHT, *(Mutant("forward", f"g: {i}", verdict) for i in range(2))]  # 20 of 22, but 180 of 182
    (problem,) = problems(report(mutants, reasons, ""), reasons)
    assert problem == "forward: 90.9% of the mutants were killed, 95% are asked for"


def test_a_module_without_mutants_was_not_looked_at():
    with_none = [mutant for mutant in RIGHT if mutant.module != "symbols"]
    assert problems(report(with_none, {}, ""), {}) == ["symbols: no mutant was made"]
