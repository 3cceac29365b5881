"""Runs that are killed at any moment, and called again, end with the results of runs that never were."""

import json
import os
import subprocess
import sys

from test_style import ROOT

SOAK = ROOT / "results" / "soak.json"
JOBS = {"train", "evaluate", "invert", "neighbors"}


def total(kills, part=""):
    """How many of the kills are by a signal, or at a moment, that holds the part."""
    return sum(
        count
        for moments in kills.values()
        for moment, signals in moments.items()
        for name, count in signals.items()
        if part in name or part in moment
    )


def assert_nothing_lost(found):
    assert found["runs_with_equal_results"] == found["runs"] > 0
    assert (found["corrupted_files"], found["leftovers"]) == (0, 0)
    lost = {name: int(text.split()[0]) for name, text in found["lost_at_most"].items()}
    assert lost.keys() == JOBS
    assert lost.pop("train") <= 2  # a checkpoint every two steps
    assert max(lost.values()) <= 1
    assert total(found["kills"]) == found["total_kills"]


def test_killed_runs_end_with_the_results_of_uninterrupted_ones(tmp_path):
    command = [sys.executable, ROOT / "tools" / "soak.py", "--kills", "10", "--out", tmp_path / "soak.json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # a fork takes no threads along
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "soak.json").read_text())
    assert found["total_kills"] >= 10
    assert found["resumed"] > 0
    assert_nothing_lost(found)


def test_a_few_hundred_kills_by_every_signal_at_every_moment_lost_nothing():
    found = json.loads(SOAK.read_text())
    assert_nothing_lost(found)
    assert found["total_kills"] >= 200
    assert found["resumed"] > found["total_kills"] / 2
    for signal in ("SIGKILL", "SIGTERM", "SIGINT"):
        assert total(found["kills"], signal) > 50
    for moment in ("any time", "in a step", "in a cell", "half written", "before its rename", "after its rename"):
        assert total(found["kills"], moment) > 10
    for file in ("checkpoint", "final weights", "sheet", "result"):
        assert total(found["kills"], f"{file}, ") > 10
