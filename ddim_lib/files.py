"""Files that are written whole or not at all, by one process at a time."""

from __future__ import annotations

import errno
import glob
import os
import platform
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there
    fcntl = None

NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK}  # of some network file systems
LOCK, HOLDER = ".ddim.lock", re.compile(r"process \d+ on [\w.-]*")  # a lock's file, and what stands in it


def write_atomic(files: dict[Path, bytes]) -> None:
    """Write every file beside its place, then rename all into place: a failure leaves the older ones as they were.

    So does Ctrl-C. A kill leaves them, too, unless it falls between two renames: of several files the first are then
    new and the others old, which the hashes in our JSON files tell, until all are written again. (A failure between two
    renames is no better on a file system without hard links.)

    What killed processes left of the same files is removed. Of two processes that write one file the last one wins;
    :func:`sole_writer` keeps the second out.

    Raises:
        OSError: names the file; if the disk is full, says how much room there is. A folder, pipe or device is refused.
    """
    if wrong := next((path for path in files if path.exists() and not path.is_file()), None):
        raise OSError(f"cannot write {wrong}: it is no file but a folder, pipe or device")
    temporary = {path: path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in files}
    path = None  # the file in hand
    try:
        try:
            for path, data in files.items():
                _remove_leftovers(path)
                _write_through(temporary[path], data)
            with _all_or_none(temporary):
                for path in files:
                    os.replace(temporary[path], path)
        finally:
            for left in temporary.values():
                left.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}{_room(path.parent, files, error)}") from error


@contextmanager
def _all_or_none(temporary: dict[Path, Path]) -> Iterator[None]:
    """Put the older files back, under whose names the block renamed new ones, unless it came to the last of them."""
    *first, last = temporary
    older = {path: path.with_name(f".{path.name}.{os.getpid()}.old.tmp") for path in first if path.exists()}
    try:
        for path, link in older.items():
            link.unlink(missing_ok=True)
            with suppress(OSError):  # a file system without hard links
                os.link(path, link)
        yield
    except BaseException:
        if temporary[last].exists():
            for path in first:
                if path not in older:
                    path.unlink(missing_ok=True)
                elif older[path].exists():
                    os.replace(older[path], path)
        raise
    finally:
        for link in older.values():
            link.unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    """Remove what processes that have ended left of this very file; what is still being written stays."""
    temporary = re.compile(rf"\.{re.escape(path.name)}\.([0-9]+)(\.old)?\.tmp")
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        if (found := temporary.fullmatch(left.name)) and not _runs(int(found[1])):
            left.unlink(missing_ok=True)


def _runs(number: int) -> bool:
    """Whether there is a process of that number; on Windows, where asking would end it, it counts as running."""
    if os.name == "nt":
        return True
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # it is another user's
    return True


def _write_through(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _room(folder: Path, files: dict[Path, bytes], error: OSError) -> str:
    if error.errno not in NO_ROOM:
        return ""
    needed, free = sum(map(len, files.values())), shutil.disk_usage(folder).free
    return f"; {needed:,} bytes are to be written, the disk has {free:,} bytes free"


@contextmanager
def sole_writer(path: Path, folder: bool = False) -> Iterator[None]:
    """Keep other runs from writing ``path``, a folder or a file, while the block runs.

    The lock is the kernel's, on a file ``.ddim.lock`` in the folder or beside the file: it ends with the process that
    holds it, however that ends, so that a lock file that was left behind stops nobody. The folder is made if it is not
    there, and removed again if nothing was written in it.

    Args:
        path: a folder that exists, or a file.
        folder: it is a folder, there or not.

    Raises:
        OSError: another process holds the lock, and is named; or nothing can be written there.
    """
    name = path / LOCK if folder or path.is_dir() else path.with_name(f".{path.name}{LOCK}")
    made = not name.parent.exists()
    try:
        name.parent.mkdir(parents=True, exist_ok=True)
        lock = _acquire(name)
    except OSError as error:
        raise OSError(f"cannot write in {name.parent}: {error.strerror}{_room(name.parent, {}, error)}") from error
    if lock is None:
        raise BlockingIOError(f"{path} is in use by {_holder(name)}; wait until it has ended, or name another --out")
    with lock:
        try:
            yield
        finally:
            with suppress(OSError):
                name.unlink()  # while it is locked: who opened it meanwhile sees that it is gone
                if made:
                    name.parent.rmdir()  # fails where anything is in it


def _acquire(name: Path) -> FileIO | None:
    """The lock file, locked, with the number of this process in it; None if another holds it."""
    while True:
        with ExitStack() as stack:
            lock = stack.enter_context(open(name, "ab+", buffering=0))
            if not _try_lock(lock, name):
                return None
            if os.fstat(lock.fileno()).st_nlink:  # else its holder removed it before it was locked here
                lock.truncate(0)
                lock.write(f"process {os.getpid()} on {platform.node()}".encode())
                stack.pop_all()
                return lock


def _try_lock(lock: FileIO, name: Path) -> bool:
    try:
        if fcntl:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        warnings.warn(f"{name} cannot be locked ({error.strerror}): let no other run write there", stacklevel=5)
    return True


def _holder(name: Path) -> str:
    with suppress(OSError), open(name, "rb") as lock:  # it may have ended just now
        if said := HOLDER.fullmatch(lock.read(300).decode(errors="replace")):
            return said[0]
    return "another process"
