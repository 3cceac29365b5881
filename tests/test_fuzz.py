"""The fuzzing of all readers, in short, and that it finds what it is for."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import command_lines
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


def takes_memory(folder):
    raise ValueError("DefaultCPUAllocator: can't allocate memory")


def believes_anything(folder):
    return (folder / "file").read_bytes()


@pytest.fixture
def limited_time():
    before = signal.getsignal(signal.SIGALRM)
    fuzz.limit_time()
    yield
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    ("read", "outcome"),
    [
        (fails_otherwise, "KeyError"),
        (hangs, "HangError"),
        (takes_memory, "a blow-up of memory"),
        (tells_all, "no short line"),
        (tells_two_lines, "no short line"),
        (believes_anything, "read as another file, although it has a hash"),
    ],
)
def test_a_reader_with_a_fault_is_found(tmp_path, monkeypatch, limited_time, read, outcome):
    def reads(folder):
        return b"good" if (folder / "file").read_bytes() == b"good" else read(folder)

    faulty = Reader(write, reads, ValueError, {"altered": lambda folder, rng: (folder / "file").write_bytes(b"bad")})
    monkeypatch.setitem(readers.READERS, "faulty", faulty)
    if read is hangs:
        monkeypatch.setattr(fuzz, "SECONDS", 0.2)
    found, wrong = fuzz.fuzz_files("faulty", 1, 0, tmp_path)
    assert len(wrong) == 1
    assert outcome in wrong[0]
    assert list(found["altered"].values()) == [1]


def test_a_command_that_fills_the_memory_is_found():
    assert "a blow-up of memory" in command_lines.problem(2, "error: the memory is too small: can't allocate\n")
    assert command_lines.problem(2, "error: --n must be at least 1, got 0\n") is None


def test_every_module_that_reads_files_or_runs_a_command_is_in_the_fingerprint():
    uses = re.compile(r"^from \.(reading|files) import|^def (run_|main)", re.MULTILINE)
    modules = {path.stem for path in (ROOT / "ddim_lib").glob("*.py") if uses.search(path.read_text())}
    assert len(modules) > 12
    assert modules <= set(fuzz.READING.split())
    assert all((ROOT / "ddim_lib" / f"{name}.py").exists() for name in fuzz.READING.split())


@pytest.mark.parametrize("name", READERS)
def test_good_files_are_read(tmp_path, name):
    with readers.own_hashes(tmp_path):
        (tmp_path / "good").mkdir()
        READERS[name].write(tmp_path / "good")
        assert READERS[name].read(tmp_path / "good") is not None
