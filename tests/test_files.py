"""Files are written whole, by one process at a time, and a disk that is full is named with its room."""

import errno
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from ddim_lib import files
from ddim_lib.files import sole_writer, write_atomic

HOLDER = f"""
import pathlib, runpy, sys
sole_writer = runpy.run_path({files.__file__!r})["sole_writer"]
with sole_writer(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(path):
    """A process that holds a path until its stdin is closed."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    return process


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def lock_name(path):
    return path / ".ddim.lock" if path.is_dir() else path.with_name(f".{path.name}.ddim.lock")


@pytest.fixture(params=["folder", "file", "file in a folder that is not there yet"])
def path(request, tmp_path):
    return {"folder": tmp_path, "file": tmp_path / "r.json"}.get(request.param, tmp_path / "new" / "r.json")


# write_atomic


def test_what_killed_processes_left_of_a_file_goes_when_it_is_written_again(tmp_path):
    path, gone = tmp_path / "a[1].json", ended()
    others = [".a[1].json.ddim.lock", f".a1.json.{gone}.tmp", f".a[1].json5.{gone}.tmp", f".a[1].json.bak.{gone}.tmp"]
    for name in [*others, f".a[1].json.{gone}.tmp", f".a[1].json.{'9' * 40}.tmp", f".a[1].json.{gone}.old.tmp"]:
        (tmp_path / name).write_text("half")
    write_atomic({path: b"whole"})
    assert names(tmp_path) == sorted([*others, path.name])
    assert path.read_bytes() == b"whole"


def ended():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize("number", [1, os.getppid()])
def test_what_another_process_is_writing_stays(tmp_path, number):
    (tmp_path / f".r.json.{number}.tmp").write_text("half")
    write_atomic({tmp_path / "r.json": b"whole"})
    assert names(tmp_path) == [f".r.json.{number}.tmp", "r.json"]


def test_what_a_process_of_another_user_is_writing_stays(tmp_path, monkeypatch):
    def refuses(number, signal):
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuses)
    (tmp_path / ".r.json.77.tmp").write_text("half")
    write_atomic({tmp_path / "r.json": b"whole"})
    assert names(tmp_path) == [".r.json.77.tmp", "r.json"]


def test_on_windows_no_process_is_asked_whether_it_runs(monkeypatch):
    monkeypatch.setattr(files, "os", SimpleNamespace(name="nt"))  # without kill, which would end the process there
    assert files._runs(7)


WRITER = f"""
import pathlib, runpy, sys
write_atomic = runpy.run_path({files.__file__!r})["write_atomic"]
for count in range(100):
    write_atomic({{pathlib.Path(sys.argv[1]): b"whole"}})
"""


@pytest.mark.parametrize("others", [["r", "r"], ["r", "r.json"]], ids=" and ".join)
def test_processes_that_write_at_once_do_not_hinder_each_other(tmp_path, others):
    started = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / name)], stderr=subprocess.PIPE)
        for name in others
    ]
    assert [process.communicate()[1].decode() for process in started] == ["", ""]
    assert names(tmp_path) == sorted(set(others))


PAIRS = {"older ones": {"a": b"old", "b": b"older"}, "only the second older": {"b": b"older"}, "none": {}}


def write_all(folder, contents):
    write_atomic({folder / name: data for name, data in contents.items()})


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def replacing(count, when, error):
    """``os.replace`` that raises at the so-many-th call, before or after it renames."""
    real, calls = os.replace, []

    def replace(source, target):
        calls.append(target)
        if len(calls) == count and when == "before":
            raise error
        real(source, target)
        if len(calls) == count and when == "after":
            raise error

    return replace


@pytest.mark.parametrize("older", PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize(("count", "when"), [(1, "before"), (1, "after"), (2, "before"), (2, "after")])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()], ids=repr)
def test_an_error_or_interrupt_at_a_rename_leaves_all_older_files_or_all_new_ones(
    tmp_path, monkeypatch, older, count, when, error
):
    new = {"a": b"new", "b": b"newer"}
    for name, data in older.items():
        write_all(tmp_path, {name: data})
    monkeypatch.setattr(os, "replace", replacing(count, when, error))
    with pytest.raises(type(error)):
        write_all(tmp_path, new)
    assert contents(tmp_path) == (new if (count, when) == (2, "after") else older)


def test_files_are_written_where_there_are_no_hard_links(tmp_path, monkeypatch):
    def lacks(source, target):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", lacks)
    for new in ({"a": b"1", "b": b"2"}, {"a": b"3", "b": b"4"}):
        write_all(tmp_path, new)
        assert contents(tmp_path) == new
    monkeypatch.setattr(os, "replace", replacing(2, "before", OSError(errno.EIO, "Input/output error")))
    with pytest.raises(OSError, match=r"cannot write .*/b: Input/output error"):
        write_all(tmp_path, {"a": b"5", "b": b"6"})
    assert contents(tmp_path) == {"a": b"5", "b": b"4"}  # each of them is whole


KILLED = f"""
import os, pathlib, runpy, signal, sys
write_atomic, real = runpy.run_path({files.__file__!r})["write_atomic"], os.replace
def replace(source, target):
    real(source, target)
    os.kill(os.getpid(), signal.SIGKILL)
os.replace = replace
write_atomic({{pathlib.Path(sys.argv[1]) / name: b"new" for name in "ab"}})
"""


def test_what_a_kill_between_two_renames_leaves_is_mended_by_writing_again(tmp_path):
    write_all(tmp_path, {"a": b"old", "b": b"older"})
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    left = contents(tmp_path)
    assert (left.pop("a"), left.pop("b")) == (b"new", b"older")
    assert sorted(left.values()) == [b"new", b"old"]
    write_all(tmp_path, {"a": b"newest", "b": b"newest"})
    assert contents(tmp_path) == {"a": b"newest", "b": b"newest"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_with_its_room(tmp_path, monkeypatch, number):
    def fails(descriptor):
        raise OSError(number, os.strerror(number))

    path = tmp_path / "r.json"
    write_atomic({path: b"older"})
    monkeypatch.setattr(os, "fsync", fails)
    monkeypatch.setattr(files.shutil, "disk_usage", Usage)
    with pytest.raises(OSError, match="cannot write") as caught:
        write_atomic({path: b"new", tmp_path / "r.png": b"12345"})
    room = "8 bytes are to be written, the disk has 1,234 bytes free"
    assert str(caught.value) == f"cannot write {path}: {os.strerror(number)}; {room}"
    assert (names(tmp_path), path.read_bytes()) == (["r.json"], b"older")


class Usage:
    free = 1234

    def __init__(self, folder):
        assert names(folder) == ["r.json"]  # what was half-written does not count


def test_other_errors_name_the_file_too(tmp_path):
    with pytest.raises(OSError, match=r"cannot write .*/none/r.json: No such file or directory$"):
        write_atomic({tmp_path / "none" / "r.json": b""})


def test_a_folder_or_pipe_is_never_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(OSError, match=f"{name}: it is no file but a folder, pipe or device$"):
            write_atomic({tmp_path / "good": b"new", tmp_path / name: b"new"})
    assert names(tmp_path) == ["folder", "pipe"]


# sole_writer


def test_a_second_process_is_refused_and_the_first_is_named(path):
    with holder(path) as first:
        for _ in range(2):  # being refused changes nothing
            with pytest.raises(OSError, match="in use") as caught, sole_writer(path):
                pass
            by = f"process {first.pid} on {os.uname().nodename}"
            assert str(caught.value) == f"{path} is in use by {by}; wait until it has ended, or name another --out"
    with sole_writer(path):
        assert lock_name(path).exists()
    assert not lock_name(path).exists()


def test_a_second_run_in_the_same_process_is_refused(path):
    with sole_writer(path), pytest.raises(OSError, match=f"in use by process {os.getpid()} on"), sole_writer(path):
        pass


def test_what_a_killed_process_held_is_free(path):
    with holder(path) as first:
        first.send_signal(signal.SIGKILL)
    assert lock_name(path).read_text().startswith(f"process {first.pid} on")
    with sole_writer(path):
        assert lock_name(path).read_text().startswith(f"process {os.getpid()} on")
    assert not lock_name(path).exists()


def test_a_folder_that_is_not_there_yet_is_made_and_held(tmp_path):
    with sole_writer(tmp_path / "new" / "run", folder=True):
        assert names(tmp_path / "new" / "run") == [lock_name(tmp_path).name]
        (tmp_path / "new" / "run" / "r.json").touch()
    assert names(tmp_path / "new" / "run") == ["r.json"]


def test_a_folder_that_was_made_for_nothing_goes_again(tmp_path):
    (tmp_path / "old").mkdir()
    for name in ("old", "new"):
        with sole_writer(tmp_path / name, folder=True):
            pass
    assert names(tmp_path) == ["old"]


def test_a_file_in_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "f").write_text("here already")
    refused = pytest.raises(OSError, match=f"cannot write in {tmp_path / 'f'}: File exists")
    with refused, sole_writer(tmp_path / "f", folder=True):
        pass


def test_a_lock_of_another_program_stays_as_it_was(tmp_path):
    for name in (".lock", ".r.json.lock"):
        (tmp_path / name).write_text("another's")
    for path in (tmp_path, tmp_path / "r.json"):
        with sole_writer(path):
            pass
    assert [path.read_text() for path in tmp_path.iterdir()] == ["another's", "another's"]
    assert names(tmp_path) == [".lock", ".r.json.lock"]


@pytest.mark.parametrize("said", [b"", b"\xff\xfe", b"\x1b[31mprocess 3 on m", b"process 3 on m" * 10**6])
def test_a_lock_that_names_no_process_is_held_by_another_one(tmp_path, said):
    with sole_writer(tmp_path):
        lock_name(tmp_path).write_bytes(said)
        refused = pytest.raises(OSError, match="is in use by another process; wait until")
        with refused, sole_writer(tmp_path):
            pass


def test_an_error_inside_frees_the_path_and_passes(path):
    with pytest.raises(KeyError, match="inside"), sole_writer(path):
        raise KeyError("inside")
    assert not lock_name(path).exists()


def test_a_lock_that_vanishes_before_it_is_taken_is_taken_anew(path, monkeypatch):
    """The holder removes its lock file and ends after this process opened the file and before it locks it."""
    real, seen = files._try_lock, []

    def late(lock, name):
        if not seen:
            name.unlink()
        seen.append(os.fstat(lock.fileno()).st_nlink)
        return real(lock, name)

    monkeypatch.setattr(files, "_try_lock", late)
    with sole_writer(path):
        assert seen == [0, 1]
        done = subprocess.run([sys.executable, "-c", HOLDER, str(path)], input=b"", capture_output=True)
        assert b"is in use by" in done.stderr


def test_files_in_one_folder_are_held_one_by_one(tmp_path):
    with sole_writer(tmp_path / "a.json"), sole_writer(tmp_path / "b.json"), sole_writer(tmp_path):
        assert names(tmp_path) == [".a.json.ddim.lock", ".b.json.ddim.lock", ".ddim.lock"]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_place_where_nothing_can_be_written_is_named(tmp_path, monkeypatch, number):
    def refuses(*args, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files, "open", refuses, raising=False)
    with (
        pytest.raises(OSError, match=f"cannot write in {tmp_path}: {os.strerror(number)}"),
        sole_writer(tmp_path / "r"),
    ):
        pass


def test_a_full_disk_leaves_no_open_lock(tmp_path, monkeypatch):
    class Full(files.FileIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "open", lambda path, mode, buffering: Full(path, "ab+"), raising=False)
    with pytest.raises(OSError, match=r"No space left on device; .* bytes free"), sole_writer(tmp_path):
        pass
    monkeypatch.undo()
    with sole_writer(tmp_path):
        pass


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch):
    def lacks(*args):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(files.fcntl, "flock", lacks)
    with (
        pytest.warns(UserWarning, match=r"\.lock cannot be locked \(Function not implemented\)"),
        sole_writer(tmp_path),
    ):
        pass


def test_without_fcntl_nothing_is_locked(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)  # as on Windows
    with sole_writer(tmp_path), sole_writer(tmp_path):
        pass
