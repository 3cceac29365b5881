"""A disk that fills, a folder that is read-only, a clock that goes back, two runs at once: nothing is lost.

What a kill does to a run is in test_kill.py.
"""

import errno
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time

import pytest
import tqdm
from conftest import assert_refused
from test_files import holder, lock_name, names
from test_style import ROOT

import ddim_lib.__main__ as cli
from ddim_lib import UNet, files
from ddim_lib.classifier import Classifier

sys.path.append(str(ROOT / "tools"))
import small_jobs
import soak

OTHERS = {
    "sample": ("sample mnist --n 4 --device cpu", "sheet.png"),
    "train-classifier": ("train-classifier mnist-5k --epochs 1", "classifier.safetensors"),
    "export-diffusers": ("export-diffusers mnist", ""),
    "export-onnx": ("export-onnx mnist", "net.onnx"),
}
COMMANDS = {name: (job.arguments, job.out) for name, job in small_jobs.JOBS.items()} | OTHERS
each_command = pytest.mark.parametrize("name", COMMANDS)


@pytest.fixture(scope="module", autouse=True)
def small(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        small_jobs.make_small(tmp_path_factory.mktemp("small") / "weights", patch.setattr)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a run leaves that nothing disturbed, by its command's name; the folder of the training run."""
    found = {}
    for name in ("evaluate", "train"):
        found["folder"] = tmp_path_factory.mktemp(name)
        assert cli.main(call(name, found["folder"])) == 0
        found[name] = soak.contents(found["folder"])
    return found


@pytest.fixture
def no_work(monkeypatch):
    """Fail when a network is run."""

    def works(*args):
        raise AssertionError("a network was run before the command was refused")

    for network in (UNet, Classifier):
        monkeypatch.setattr(network, "forward", works)


def call(name, folder):
    arguments, out = COMMANDS[name]
    return [*arguments.split(), "--out", str(folder / out)]


# Two runs at once


@each_command
@pytest.mark.usefixtures("no_work")
def test_a_second_run_is_refused_at_once_and_names_the_first(name, tmp_path, capsys):
    out = tmp_path / COMMANDS[name][1]
    with holder(out) as first:
        assert_refused(
            capsys, call(name, tmp_path), f"{out} is in use by process {first.pid} on ", "name another --out"
        )
        assert names(tmp_path) == [lock_name(out).name]


def test_evaluations_with_other_result_files_run_at_the_same_time(tmp_path):
    with holder(tmp_path / "other.json"):
        assert cli.main(call("invert", tmp_path)) == 0


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_the_lock_of_a_killed_run_stops_nobody_and_is_gone_afterwards(name, tmp_path, whole):
    with holder(tmp_path / COMMANDS[name][1]) as first:
        first.kill()
    assert len(names(tmp_path)) == 1
    assert cli.main(call(name, tmp_path)) == 0
    assert soak.contents(tmp_path) == whole[name]


# A folder that is read-only


@pytest.fixture
def read_only(tmp_path):
    """A folder in which nothing can be written: of a file system that is mounted read-only, or by its permissions."""
    if os.geteuid():
        tmp_path.chmod(0o555)
        yield tmp_path
        tmp_path.chmod(0o755)
    else:  # root may write everywhere
        with mounted(tmp_path, "ro") as folder:
            yield folder


class mounted:  # noqa: N801  used as a function
    """A small file system in memory; skips the test where none can be mounted."""

    def __init__(self, folder, options):
        self.folder, self.options = folder, options

    def __enter__(self):
        self.mount(self.options)
        return self.folder

    def mount(self, options):
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(self.folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False) if not os.geteuid() else None
        if done is None or done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip() if done else 'not root'}")

    def __exit__(self, *error):
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


@each_command
@pytest.mark.usefixtures("no_work")
def test_a_read_only_folder_is_refused_before_any_work(name, read_only, capsys):
    assert_refused(capsys, call(name, read_only), f"cannot write in {read_only}: ")


@each_command
@pytest.mark.usefixtures("no_work")
def test_a_new_folder_below_a_read_only_one_is_refused_before_the_data_are_read(name, read_only, capsys, monkeypatch):
    for module in (cli.commands, cli.memorization):
        monkeypatch.setattr(module, "load_pixels", None)
    assert_refused(capsys, call(name, read_only / "new"), f"cannot write in {read_only / 'new'}: ")


@each_command
@pytest.mark.usefixtures("no_work")
def test_a_folder_that_takes_no_files_is_refused_before_any_work(name, tmp_path, capsys, monkeypatch):
    def refuses(path, *args, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    monkeypatch.setattr(files, "open", refuses, raising=False)
    assert_refused(capsys, call(name, tmp_path), f"cannot write in {tmp_path}: Read-only file system")
    assert names(tmp_path) == []


# A disk that fills


def assert_ends_for_want_of_room(capsys, name, folder):
    """Exit status 2, and one line below the progress bar."""
    assert cli.main(call(name, folder)) == 2
    said, number = capsys.readouterr().err.replace("\r", "\n"), r"[\d,]+ bytes"
    room = f"{number} are to be written, the disk has {number} free"
    assert re.fullmatch(f"error: cannot write {folder}/.*: No space left on device; {room}", said.splitlines()[-1])
    assert "Traceback" not in said


@pytest.mark.parametrize("name", ["train", "evaluate"])
@pytest.mark.parametrize("writes", [1, 4])
def test_a_run_ends_when_the_disk_is_full_and_goes_on_when_there_is_room(
    name, writes, tmp_path, whole, capsys, monkeypatch
):
    left, real = itertools.count(writes, -1), os.fsync

    def fills(descriptor):
        if next(left) <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fills)
    assert_ends_for_want_of_room(capsys, name, tmp_path)
    assert soak.corrupted(tmp_path) == []
    assert not [found for found in names(tmp_path) if found.startswith(".")]
    monkeypatch.undo()
    assert cli.main(call(name, tmp_path)) == 0
    assert soak.contents(tmp_path) == whole[name]


def test_a_real_disk_that_is_full_is_named_with_its_room(tmp_path, whole, capsys):
    one = sum(len(data) for file, data in whole["train"].items() if file.endswith("12.safetensors"))
    with mounted(tmp_path, f"size={2 * one // 1024}k") as disk:
        assert_ends_for_want_of_room(capsys, "train", disk)
        assert small_jobs.newest_step(disk) > 0
        assert soak.corrupted(disk) == []
        subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
        assert cli.main(call("train", disk)) == 0
        assert soak.contents(disk) == whole["train"]


# A clock that goes back


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_a_clock_that_goes_back_changes_nothing(name, tmp_path, whole, monkeypatch):
    clock, real = itertools.count(2e9, -3600), os.fsync  # each look at it finds it an hour earlier
    for module in (time, tqdm.std):
        monkeypatch.setattr(module, "time", lambda: next(clock))
    stop = itertools.count(4, -1)

    def interrupts(descriptor):
        real(descriptor)
        os.utime(descriptor, (next(clock), next(clock)))
        if next(stop) == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupts)
    assert cli.main(call(name, tmp_path)) == 130
    assert cli.main(call(name, tmp_path)) == 0
    assert soak.contents(tmp_path) == whole[name]
    assert all(seconds >= 0 for path in tmp_path.glob("*.json") for seconds in durations(json.loads(path.read_text())))


def durations(found):
    """Every value that is called seconds, at any depth."""
    if not isinstance(found, dict):
        return []
    own = [found["seconds"]] if "seconds" in found else []
    return own + [seconds for value in found.values() for seconds in durations(value)]


# The checks find what they are for


@pytest.mark.parametrize("name", ["checkpoint-00000012.safetensors", "ema.json", "samples-00000004.png"])
def test_a_truncated_file_counts_as_corrupted(name, tmp_path, whole):
    shutil.copytree(whole["folder"], tmp_path, dirs_exist_ok=True)
    assert soak.corrupted(tmp_path) == []
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-9])
    assert path in soak.corrupted(tmp_path)
