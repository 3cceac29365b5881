"""Thousands of damaged and hostile files, and command lines, for all that reads some: ``python tools/fuzz.py``.

Each must end in one error of the documented kind, on one short line, or be read as what it was before the damage; the
author of a file that carries its own hashes may write another good one. What else happens, such as another exception, a
hang, or 2 GiB of memory, is printed with the case that shows it, and the exit status is 1. ``results/fuzz.json`` counts
what happened. The damage is in ``tests/damage.py``, what is damaged in ``tests/readers.py``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "results" / "fuzz.json"
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

READING = (
    "__main__ checkpoints classifier commands datasets diffusers_models diffusers_names evaluate files inception "
    "inversion measuring memorization onnx_export plots reading results stopping train unet variant weights"
)
SECONDS, GIB, LINE = 20, 2, 1400  # more for a case is a hang, a blow-up, or no short message
REFUSED, SAME, OTHER = "refused with one error", "read as the original", "read as another good file"


class HangError(BaseException):
    """A case that took too long; not an Exception, so that nothing takes it for an error of a file."""


def fingerprint() -> str:
    """SHA-256 of the code that reads files or command lines, and of the cases."""
    files = [ROOT / "ddim_lib" / f"{name}.py" for name in READING.split()]
    files += [Path(__file__), *(ROOT / "tests" / f"{name}.py" for name in ("command_lines", "damage", "readers"))]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def fuzz_files(name: str, cases: int, seed: int, folder: Path) -> tuple[dict[str, Counter[str]], list[str]]:
    """Damage one reader's files: (outcomes for each kind of damage, what went wrong)."""
    from readers import READERS

    reader, found, wrong = READERS[name], {}, []
    (good := folder / f"{name}-good").mkdir()
    reader.write(good)
    original = reader.read(shutil.copytree(good, folder / f"{name}-first"))
    for kind in reader.kinds:
        found[kind] = Counter()
        for number in range(cases):
            here = shutil.copytree(good, folder / "case")
            reader.kinds[kind](here, random.Random(f"{seed} {name} {kind} {number}"))
            outcome = guarded(lambda here=here: read_one(reader, here, original))
            if outcome == OTHER and reader.hashes and "forged" not in kind:
                outcome = "read as another file, although it has a hash"
            found[kind][outcome] += 1
            if outcome not in (REFUSED, SAME, OTHER):
                wrong.append(f"{name}, {kind}, number {number}: {outcome}")
            shutil.rmtree(here)
    return found, wrong


def read_one(reader: Any, folder: Path, original: object) -> str:
    """What becomes of one set of files."""
    try:
        value = reader.read(folder)
    except reader.error as error:
        message = str(error)
        if len(message) > LINE or not message.isprintable():
            return f"an error that is no short line: {message[:300]!r}"
        if "alloc" in message:
            return f"a blow-up of memory: {message[:300]}"
        return REFUSED
    return SAME if value == original else OTHER


def fuzz_commands(cases: int, seed: int, folder: Path) -> tuple[dict[str, Counter[str]], list[str]]:
    """Hostile command lines: (outcomes for each command, what went wrong)."""
    import command_lines

    found, wrong = {}, []
    with command_lines.small_commands(folder / "commands"):
        for command, arguments in command_lines.GOOD.items():
            found[command] = Counter([run_one(command_lines, [command, *arguments])])  # and imports what it needs
            for number in range(cases):
                argv = command_lines.command_line(command, random.Random(f"{seed} {command} {number}"))
                outcome = guarded(lambda argv=argv: run_one(command_lines, argv))
                found[command][outcome] += 1
                if outcome not in (REFUSED, "usage or help", "done"):
                    wrong.append(f"{command}, number {number}: {outcome}: {[word[:60] for word in argv]}")
    return found, wrong


def run_one(command_lines: Any, argv: list[str]) -> str:
    """What becomes of one command line."""
    status, _, err = command_lines.run(argv)
    if problem := command_lines.problem(status, err):
        return problem
    if "here the work would begin" in err:
        return "done"  # as far as it goes here
    return REFUSED if status == 2 and not err.startswith("usage: ") else "usage or help" if status else "done"


def guarded(run: Callable[[], str]) -> str:
    """The outcome, or what went wrong."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        return run()
    except (Exception, HangError) as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def limit_time() -> None:
    """Let a case that hangs raise HangError."""

    def hang(*_: object) -> None:
        raise HangError(f"more than {SECONDS} s")

    signal.signal(signal.SIGALRM, hang)


def limit_memory() -> None:
    """Let a case that asks for so much raise MemoryError, from here to the end of the process."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + GIB * 2**30
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def fuzz(cases: int, seed: int, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """All readers and all commands: (outcomes, what went wrong). Runs in ``folder``."""
    import command_lines  # noqa: F401, before the memory is limited
    import readers
    from damage import MARK

    limit_time()
    limit_memory()
    os.chdir(folder)
    outcomes, wrong = {}, []
    with readers.own_hashes(folder):
        for name in readers.READERS:
            outcomes[name], errors = fuzz_files(name, cases, seed, folder)
            wrong += errors
            tell(name, errors)
    outcomes["command line"], errors = fuzz_commands(6 * cases, seed, folder)
    if [*folder.rglob(MARK)]:
        errors.append("a pickle was loaded")
    if strange := set(os.listdir("commands")) - {"a", "mnist.json", "mnist.safetensors", "up.json"}:
        errors.append(f"written outside: {strange}")
    tell("command line", errors)
    return outcomes, wrong + errors


def tell(name: str, errors: list[str]) -> None:
    """Say how far it is, and what went wrong there."""
    print("\n".join([f"{name}: {len(errors)} wrong", *errors]), file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run, print what went wrong, write what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=34, help="of each kind of damage; six times as many of a command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args(argv)
    out, peak = args.out.resolve(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    warnings.simplefilter("ignore")
    logging.disable()
    with tempfile.TemporaryDirectory() as folder:
        outcomes, wrong = fuzz(args.cases, args.seed, Path(folder))
        os.chdir(ROOT)
    print(
        f"{(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) >> 10} MiB more memory at most", file=sys.stderr
    )
    print("\n".join(wrong), file=sys.stderr)
    tried = {name: sum(sum(counts.values()) for counts in kinds.values()) for name, kinds in outcomes.items()}
    command = f"python tools/fuzz.py --cases {args.cases} --seed {args.seed}"
    result = {"command": command, "fingerprint": fingerprint(), "wrong": len(wrong), "tried": tried}
    out.write_text(json.dumps(result | {"outcomes": outcomes}, indent=1, sort_keys=True) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
