"""Processes of the command line that are killed at a chosen moment: forked, since every import costs seconds."""

from __future__ import annotations

import fnmatch
import importlib
import mmap
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddim_lib import __main__ as cli
from ddim_lib import files

STAGES = ("half written", "before its rename", "after its rename")  # at which a write can be cut short


@dataclass(frozen=True)
class Job:
    """A command that can be stopped and called again.

    Attributes:
        arguments: of the command line, all but ``--out``.
        out: what ``--out`` names, below the folder of the run; empty for the folder itself.
        run: the command's function, as "module.name".
        unit: a unit of its work in words.
        work: a function that is called once for every unit, as "module.name".
        done: how many units the files of a run hold.
        writes: files in words, and the pattern of their names.
        ahead: calls of ``work`` before the first unit.
        units: units in all.
    """

    arguments: str
    out: str
    run: str
    unit: str
    work: str
    done: Callable[[Path], int]
    writes: dict[str, str]
    ahead: int = 0
    units: int = 5

    def call(self, folder: Path) -> list[str]:
        """The whole command line of the run in ``folder``."""
        return [*self.arguments.split(), "--out", str(folder / self.out)]


@dataclass(frozen=True)
class Kill:
    """Which signal a process gets, and when.

    Attributes:
        number: of the signal.
        files: a pattern: the process gets it when it writes such a file; empty: ``seconds`` after ``units``.
        stage: one of :data:`STAGES`.
        units: units of work, or writes of such files, that come first.
        seconds: how long after those.
    """

    number: signal.Signals
    files: str = ""
    stage: str = ""
    units: int = 0
    seconds: float = 0.0


class Process:
    """A forked process that runs a job, says how far it is, and may be killed."""

    def __init__(self, job: Job, folder: Path, kill: Kill | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._shared = mmap.mmap(-1, 2)  # whether the command has begun; units of work, of which there are few
        self.log = folder.with_name(folder.name + ".log")
        self.status: int | None = None  # how it ended
        self.number = os.fork()
        if not self.number:
            self._run(job, folder, kill)
        if kill and not kill.files:
            self._kill(kill)
        while self.status is None:
            self._wait(0)

    @property
    def units(self) -> int:
        """Units of work that were begun or done."""
        return self._shared[1]

    @property
    def said(self) -> str:
        """What it wrote to stdout and stderr, carriage returns as they are."""
        return self.log.read_bytes().decode()

    def _run(self, job: Job, folder: Path, kill: Kill | None) -> None:
        status = 70  # an error that the command line does not know
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
        try:
            with open(self.log, "wb", buffering=0) as log:
                for stream in (sys.stdout, sys.stderr):
                    os.dup2(log.fileno(), stream.fileno())
            wrap(job.run, lambda: self._count(0))
            wrap(job.work, lambda: self._count(1))
            if kill and kill.files:
                die_in_a_write(kill)
            status = cli.main(job.call(folder))
            sys.stdout.flush()
        finally:
            os._exit(status)

    def _count(self, index: int) -> None:
        self._shared[index] += 1

    def _kill(self, kill: Kill) -> None:
        while not (self._shared[0] and self._shared[1] >= kill.units):
            self._wait(os.WNOHANG)
            if self.status is not None:
                return
            time.sleep(0.002)
        time.sleep(kill.seconds)
        os.kill(self.number, kill.number)  # one that has ended is not gone before it is waited for

    def _wait(self, options: int) -> None:
        number, status = os.waitpid(self.number, options)
        if number:
            self.status = os.waitstatus_to_exitcode(status)


def wrap(name: str, told: Callable[[], None]) -> None:
    """Have a function of the library, "module.name", tell before each of its calls."""
    module, function = name.rsplit(".", 1)
    owner = importlib.import_module(f"ddim_lib.{module}")
    real = getattr(owner, function)

    def telling(*args: Any, **options: Any) -> Any:
        told()
        return real(*args, **options)

    setattr(owner, function, telling)


def die_in_a_write(kill: Kill) -> None:
    """Send this process the signal at that stage of its write, after ``units`` such writes."""
    write, replace, left = files._write_through, os.replace, [kill.units]

    def due(name: str, pattern: str, stage: str) -> bool:
        if stage != kill.stage or not fnmatch.fnmatch(name, pattern):
            return False
        left[0] -= 1
        return left[0] == -1  # once: not again while what was renamed is put back

    def half_written(path: Path, data: bytes) -> None:
        if due(path.name, f".{kill.files}.*.tmp", "half written"):
            path.write_bytes(data[: len(data) // 2])
            os.kill(os.getpid(), kill.number)
        write(path, data)

    def renamed(source: Path, target: Path) -> None:
        if due(target.name, kill.files, "before its rename"):
            os.kill(os.getpid(), kill.number)
        replace(source, target)
        if due(target.name, kill.files, "after its rename"):
            os.kill(os.getpid(), kill.number)

    files._write_through, os.replace = half_written, renamed
