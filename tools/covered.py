"""Say how much of the library the tests ran, and fail where that is too little: ``python tools/covered.py REPORT``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

LEAST = {"statements": 97.0, "branches": 90.0}  # per cent of all files together


def shortfalls(totals: dict[str, Any]) -> list[str]:
    """What is wrong with the totals of ``coverage json``, in words; empty where they reach LEAST."""
    found = {name: totals[f"percent_{name}_covered"] for name in LEAST}
    return [
        f"{found[name]:.1f} % of {name}, at least {least:g} %" for name, least in LEAST.items() if found[name] < least
    ]


def main(report: str) -> int:
    """Print the share of each file that is not covered in full, and of all."""
    data = json.loads(Path(report).read_text())
    for name, file in sorted(data["files"].items()):
        lines, branches = file["missing_lines"], file["missing_branches"]
        if lines or branches:
            print(f"{name}: lines {lines}, branches {branches} not run")
    totals = data["totals"]
    shares = ", ".join(f"{totals[f'percent_{name}_covered']:.1f} % of {name}" for name in LEAST)
    print(f"The tests run {shares} of the library.")
    for text in shortfalls(totals):
        print(f"Too little: {text} must be run.", file=sys.stderr)
    return 1 if shortfalls(totals) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
