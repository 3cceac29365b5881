"""The cell magic ``%%altered``: execute cells in a forked process, so that they leave no trace in the kernel.

An IPython extension, which the altered copies of the chapters load (``tools/alterations.py``). What the cells print,
display or raise is what the magic prints, displays or raises.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import publish_display_data
from IPython.utils.capture import capture_output

NEXT_CELL = "\n# ---- the next cell ----\n"
SECONDS = 110  # an alteration that takes longer is given up; nbval waits for 120


class Altered(Exception):  # noqa: N818 (what it says is the name of another error)
    """What an altered cell raised, told by the process that executed it."""


def outcome(shell: InteractiveShell, cells: list[str]) -> dict[str, Any]:
    """Execute cells: what they print and display, or else the error with which one of them ends."""
    shell.showtraceback = lambda *args, **kwargs: None
    told = {"error": None, "stdout": "", "stderr": "", "shown": []}
    for cell in cells:
        with capture_output() as captured:
            result = shell.run_cell(cell)
        error = result.error_before_exec or result.error_in_exec
        if error is not None:
            return told | {"error": f"{type(error).__name__}: {error}"}
        told["stdout"] += captured.stdout
        told["stderr"] += captured.stderr
        for out in captured.outputs:
            texts = {kind: data for kind, data in out.data.items() if isinstance(data, str)}  # pictures are bytes
            told["shown"].append({"data": texts, "metadata": out.metadata})
    return told


def in_a_fork(shell: InteractiveShell, cells: list[str]) -> dict[str, Any]:
    """The :func:`outcome` of cells that are executed in a copy of this process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        try:
            with os.fdopen(writer, "w") as pipe:
                json.dump(outcome(shell, cells), pipe)
            os._exit(0)
        finally:  # whatever happens, there is one kernel
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    return json.loads(told) if status == 0 else {"error": f"ChildProcessError: ended with status {status}"}


def load_ipython_extension(shell: InteractiveShell) -> None:
    """What ``%load_ext altered`` calls."""

    def altered(line: str, cell: str) -> None:
        found = in_a_fork(shell, cell.split(NEXT_CELL))
        if found["error"]:
            raise Altered(found["error"])
        print(found["stdout"], end="")
        print(found["stderr"], end="", file=sys.stderr)
        for out in found["shown"]:
            publish_display_data(out["data"], out["metadata"])

    shell.register_magic_function(altered, "cell", "altered")
