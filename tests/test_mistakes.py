"""The tests would catch the mistakes that were made before: each is planted, and tests of its choice must fail."""

import importlib
import inspect
import re
import textwrap
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path

import nbformat
import pytest
from _pytest.runner import runtestprotocol
from mistakes import HARMLESS, IN_CODE, IN_FORMULAS, IN_WORDS, THE_ISSUES

from ddim_lib.proofs import Refuted, prove

HERE = Path(__file__).parent
EXPECTED = (AssertionError, ValueError, pytest.fail.Exception)  # the mistake runs, and is found out


@contextmanager
def planted(mistake):
    """Change a function where it stands, so that every module, table and test that holds it has the mistake."""
    module, _, path = mistake.function.partition(".")
    function = attrgetter(path)(importlib.import_module(f"ddim_lib.{module}"))
    function = getattr(function, "__func__", function)  # of a class method
    source, kept = textwrap.dedent(inspect.getsource(function)), function.__code__
    assert source.count(mistake.right) == 1, f"{mistake.function} has not exactly one {mistake.right!r}"
    scope = dict(function.__globals__)
    exec(compile(source.replace(mistake.right, mistake.wrong), f"{mistake.function}, wrong", "exec"), scope)
    wrong = scope[function.__name__]
    function.__code__ = getattr(wrong, "__func__", wrong).__code__
    try:
        yield
    finally:
        function.__code__ = kept


class Trial:
    """A plugin of pytest that runs the collected tests once as they are and, with each mistake, those that it names."""

    def __init__(self, mistakes):
        self.mistakes, self.healthy, self.found_out, self.raised = mistakes, {}, {}, None

    def pytest_exception_interact(self, call):
        self.raised = call.excinfo.value

    def run(self, item):
        """What a test raised, or None."""
        self.raised = None
        runtestprotocol(item, log=True, nextitem=None)  # no test to come: every fixture is made anew for the next
        return self.raised

    def pytest_runtestloop(self, session):
        self.healthy = {item.nodeid: self.run(item) for item in session.items}
        for mistake in self.mistakes:
            with planted(mistake):
                outcomes = (self.run(item) for item in session.items if names(mistake, item.nodeid))
                self.found_out[mistake.name] = next((raised for raised in outcomes if raised is not None), None)
        return True


def names(mistake, node):
    return node.partition("[")[0].rpartition("/")[2] in mistake.refuted_by


@pytest.fixture(scope="module")
def trial():
    trial = Trial([HARMLESS, *IN_CODE])
    nodes = sorted({str(HERE / node) for mistake in IN_CODE for node in mistake.refuted_by})
    options = ["-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:faulthandler", "--tb=no"]
    status = pytest.main([*options, f"--rootdir={HERE.parent}", *nodes], plugins=[trial])
    assert status == pytest.ExitCode.TESTS_FAILED, "the run of the tests with mistakes broke off, see what it printed"
    return trial


def errata():
    notebook = nbformat.read(HERE.parent / "chapters" / "90_errata.ipynb", as_version=4)
    return re.findall(r"^entry\(\"(\w+)\", ", "\n".join(cell.source for cell in notebook.cells), re.MULTILINE)


def test_the_tests_pass_without_a_mistake(trial):
    assert {node: raised for node, raised in trial.healthy.items() if raised is not None} == {}


def test_a_change_that_is_no_mistake_is_not_found_out(trial):
    assert trial.found_out[HARMLESS.name] is None


@pytest.mark.parametrize("mistake", IN_CODE, ids=lambda mistake: mistake.name)
def test_a_mistake_in_the_code_is_refuted(trial, mistake):
    assert isinstance(trial.found_out[mistake.name], EXPECTED)


@pytest.mark.parametrize("mistake", IN_FORMULAS, ids=lambda mistake: mistake.entry)
def test_a_mistake_in_a_formula_is_refuted_and_its_correction_is_not(mistake):
    with pytest.raises(Refuted, match=f"{mistake.entry} is wrong"):
        prove(mistake.entry, *mistake.wrong)
    prove(mistake.entry, *mistake.right)


def test_every_entry_of_the_errata_is_a_mistake_that_is_refuted_or_one_of_words():
    in_code = {entry for mistake in IN_CODE for entry in re.findall(r"\b[PABCD]\d+\b", mistake.seen)}
    refuted = in_code | {mistake.entry for mistake in IN_FORMULAS}
    assert len(errata()) > 50
    assert refuted | IN_WORDS.keys() == set(errata())
    assert not refuted & IN_WORDS.keys()


def test_no_mistake_has_two_names():
    changes = {(mistake.function, mistake.right, mistake.wrong) for mistake in IN_CODE}
    assert len({mistake.name for mistake in IN_CODE}) == len(changes) == len(IN_CODE)


def test_the_known_mistakes_of_other_programs_are_there():
    assert set(THE_ISSUES.values()) <= {mistake.name for mistake in IN_CODE}
