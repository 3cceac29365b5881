"""The fuzzing of all readers, in short, and that it finds what it is for."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import readers
from damage import HIDDEN
from readers import READERS, Reader

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import fuzz  # noqa: E402


def test_hundreds_of_damaged_files_and_command_lines_end_in_one_error(tmp_path):
    out = tmp_path / "fuzz.json"
    command = [sys.executable, ROOT / "tools" / "fuzz.py", "--cases", "2", "--seed", "1", "--out", out]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert sum(found["tried"].values()) > 500
    assert found["outcomes"].keys() == {*READERS, "command line"}


def test_the_committed_fuzzing_is_of_this_code_and_found_nothing():
    found = json.loads(fuzz.RESULT.read_text())
    assert found["fingerprint"] == fuzz.fingerprint(), "what reads files has changed: run `make fuzz`"
    assert found["wrong"] == 0
    assert sum(found["tried"].values()) >= 3_000


def without_hidden(kinds):
    """Kinds of damage but for files without the right to read them, which root cannot make."""
    return {kind for kind in kinds if HIDDEN not in kind}


def test_damage_that_changes_nothing_is_the_only_kind_that_a_hash_lets_through():
    found = json.loads(fuzz.RESULT.read_text())["outcomes"]
    for name, reader in READERS.items():
        assert without_hidden(found[name]) == without_hidden(reader.kinds)
        for kind, counts in found[name].items():
            assert counts.keys() <= {fuzz.REFUSED, fuzz.SAME, fuzz.OTHER}
            assert fuzz.OTHER not in counts or "forged" in kind or not reader.hashes
        assert sum(counts.get(fuzz.REFUSED, 0) for counts in found[name].values()) >= 100


# The fuzzing finds what it is for


def write(folder):
    (folder / "file").write_bytes(b"good")


def fails_otherwise(folder):
    raise KeyError("x")


def hangs(folder):
    time.sleep(60)


def tells_all(folder):
    raise ValueError("x" * 100_000)


def tells_two_lines(folder):
    raise ValueError("x\ny")


def believes_anything(folder):
    return (folder / "file").read_bytes()


@pytest.mark.parametrize(
    ("read", "outcome"),
    [
        (fails_otherwise, "KeyError"),
        (hangs, "HangError"),
        (tells_all, "no short line"),
        (tells_two_lines, "no short line"),
        (believes_anything, "read as another file, although it has a hash"),
    ],
)
def test_a_reader_with_a_fault_is_found(tmp_path, monkeypatch, read, outcome):
    def reads(folder):
        return b"good" if (folder / "file").read_bytes() == b"good" else read(folder)

    faulty = Reader(write, reads, ValueError, {"altered": lambda folder, rng: (folder / "file").write_bytes(b"bad")})
    monkeypatch.setitem(readers.READERS, "faulty", faulty)
    monkeypatch.setattr(fuzz, "SECONDS", 0.2)
    fuzz.limit_time()
    found, wrong = fuzz.fuzz_files("faulty", 1, 0, tmp_path)
    assert len(wrong) == 1
    assert outcome in wrong[0]
    assert list(found["altered"].values()) == [1]


@pytest.mark.parametrize("name", READERS)
def test_good_files_are_read(tmp_path, name):
    with readers.own_hashes(tmp_path):
        (tmp_path / "good").mkdir()
        READERS[name].write(tmp_path / "good")
        assert READERS[name].read(tmp_path / "good") is not None
