"""Kill training and measuring a few hundred times, go on, and compare with runs that were never killed.

``python tools/soak.py`` writes ``results/soak.json``. A process is killed at a random time, a random time after a step
or a cell, or in the middle of writing a file, by SIGKILL, SIGTERM or SIGINT (Ctrl-C); then all files must be whole.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from itertools import cycle, product
from pathlib import Path
from typing import Any

from killing import STAGES, Job, Kill, Process
from small_jobs import JOBS, make_small

from ddim_lib import commands, weights

RESULT = Path(__file__).resolve().parent.parent / "results" / "soak.json"
LAST_LINE = re.compile(r"interrupted|stopped by \w+ after step \d+: saved; call again with --resume to go on")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
STOPPED = {-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGTERM}  # how a killed process ends
PNG_END = b"IEND\xaeB`\x82"
VARYING = {"seconds", "command", "peak_mib", "json_sha256"}  # what may differ between runs of equal result


@dataclass
class Tally:
    """What is written to the result file."""

    kills: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    resumed: int = 0
    runs: int = 0
    runs_with_equal_results: int = 0
    corrupted_files: int = 0
    leftovers: int = 0
    lost_at_most: dict[str, int] = field(default_factory=dict)


@functools.cache
def whole(name: str, folder: Path) -> tuple[Path, float]:
    """The folder of a run that was never killed, and how long it took."""
    began = time.monotonic()
    process = Process(JOBS[name], folder / name / "whole")
    if process.status:
        raise RuntimeError(f"{name} ended with {process.status}: {process.said}")
    return folder / name / "whole", time.monotonic() - began


def corrupted(folder: Path) -> list[Path]:
    """Files of a run that cannot be read whole; a file of tensors without its JSON, which is written last, is none."""
    bad = []
    for path in folder.iterdir():
        try:
            if path.suffix == ".json":
                json.loads(path.read_text())
            if path.suffix == ".safetensors" and path.with_suffix(".json").exists():
                weights.load_tensors(path)
            if path.suffix == ".png" and not path.read_bytes().endswith(PNG_END):
                raise ValueError("a truncated picture")
        except ValueError:
            bad.append(path)
    return bad


def contents(folder: Path) -> dict[str, Any]:
    """The files of a run by name: bytes, or what JSON holds but for what may vary."""
    return {
        path.name: json.loads(path.read_text(), object_hook=_constant) if path.suffix == ".json" else path.read_bytes()
        for path in folder.iterdir()
    }


def _constant(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in VARYING}


def random_kill(job: Job, moment: str, number: signal.Signals, seconds: float, rng: random.Random) -> Kill:
    """A kill at one of a job's :func:`moments`."""
    if moment == "any time":
        return Kill(number, seconds=rng.uniform(0, seconds))
    if moment == f"in a {job.unit}":
        return Kill(number, units=rng.randint(1, job.units), seconds=rng.uniform(0, seconds / 8))
    what, _, stage = moment.partition(", ")
    return Kill(number, job.writes[what], stage, units=0 if what == "final weights" else rng.randint(0, 2))


def moments(job: Job) -> list[str]:
    """All moments at which a job is killed."""
    writes = [", ".join(pair) for pair in product(job.writes, STAGES)]
    return [*writes, *2 * ["any time", f"in a {job.unit}"]]


class Victim:
    """One job, run again and again in folder after folder, and killed."""

    def __init__(self, name: str, folder: Path, tally: Tally, seed: int) -> None:
        self.name, self.job, self.tally, self.folder = name, JOBS[name], tally, folder
        self.rng = random.Random(f"{name} {seed}")
        kinds = [*product(moments(self.job), SIGNALS)]
        self.rng.shuffle(kinds)
        self.kinds, self.killed = cycle(kinds), 0
        tally.lost_at_most[name] = 0
        self._begin()

    def _begin(self) -> None:
        self.run, self.tally.runs = self.folder / self.name / f"killed-{self.tally.runs}", self.tally.runs + 1

    def kill(self) -> None:
        """Start the present run or go on with it, and kill it once; if it ends before that, begin another."""
        moment, number = next(self.kinds)
        kill = random_kill(self.job, moment, number, whole(self.name, self.folder)[1], self.rng)
        before = self.job.done(self.run) if self.run.exists() else 0
        self.tally.resumed += before > 0
        process = Process(self.job, self.run, kill)
        self._check(process, kill)
        if process.status in STOPPED:
            self.tally.kills[self.name, moment, number.name] += 1
            lost = process.units - self.job.ahead - (self.job.done(self.run) - before)
            self.tally.lost_at_most[self.name] = max(self.tally.lost_at_most[self.name], lost)
        else:
            self.compare()
            self._begin()

    def _check(self, process: Process, kill: Kill) -> None:
        said = process.said
        self.tally.corrupted_files += len(corrupted(self.run))
        if process.status not in {0, *STOPPED} or "Traceback" in said:
            raise RuntimeError(f"{self.name} with {asdict(kill)} ended with {process.status}: {said}")
        if process.status > 128 and not LAST_LINE.fullmatch(said.splitlines()[-1]):
            raise RuntimeError(f"{self.name} with {asdict(kill)} ended without its one line: {said}")

    def finish(self) -> None:
        """Let the present run go on to its end, and compare it."""
        process = Process(self.job, self.run)
        self._check(process, Kill(signal.SIGKILL))
        if process.status:
            raise RuntimeError(f"{self.name} ended with {process.status}: {process.said}")
        self.compare()

    def compare(self) -> None:
        """Count a finished run as equal, or not, to the one that was never killed."""
        wanted, found = contents(whole(self.name, self.folder)[0]), contents(self.run)
        self.tally.leftovers += len(found.keys() - wanted.keys())
        self.tally.runs_with_equal_results += all(found.get(name) == value for name, value in wanted.items())


def soak(kills: int, minutes: float, folder: Path, seed: int = 0) -> Tally:
    """Kill every job in turn, until there are so many kills or the time is up."""
    make_small(folder / "weights")
    tally, until = Tally(), time.monotonic() + 60 * minutes
    victims = [Victim(name, folder, tally, seed) for name in JOBS]
    for victim in cycle([victims[0], victims[1], victims[0], victims[2], victims[0], victims[3]]):
        if tally.kills.total() >= kills or time.monotonic() > until:
            break
        victim.kill()
    for victim in victims:
        victim.finish()
    return tally


def nested(kills: Counter[tuple[str, str, str]]) -> dict[str, dict[str, dict[str, int]]]:
    """The kills by job, moment and signal."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for (job, moment, number), count in sorted(kills.items()):
        found.setdefault(job, {}).setdefault(moment, {})[number] = count
    return found


def main() -> int:
    """Soak, and write the counts."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=300)
    options.add_argument("--minutes", type=float, default=10, help="stop after so many, with fewer kills")
    options.add_argument("--out", type=Path, default=RESULT)
    args = options.parse_args()
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    with tempfile.TemporaryDirectory() as folder:
        tally = soak(args.kills, args.minutes, Path(folder))
    lost = {name: f"{count} {JOBS[name].unit}{'s' * (count != 1)}" for name, count in tally.lost_at_most.items()}
    found = {
        "command": f"python tools/soak.py --kills {args.kills} --minutes {args.minutes:g}",
        "versions": commands.versions(),
        "total_kills": tally.kills.total(),
    }
    found |= asdict(tally) | {"kills": nested(tally.kills), "lost_at_most": lost}
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    good = not tally.corrupted_files and not tally.leftovers and tally.runs == tally.runs_with_equal_results
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
