"""Build the book twice, in two new folders, and compare all files of its pages byte for byte.

``python tools/same_html.py`` ends with status 1 where they differ, and names the files.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from serve import BUILD, ROOT


def build(folder: Path) -> Path:
    """The pages, built from the committed outputs into a new folder."""
    program = Path(sys.executable).with_name(BUILD[0])
    subprocess.run([program, *BUILD[1:-1], "--path-output", folder, ROOT], check=True)
    return folder / "_build" / "html"


def files_of(folder: Path) -> dict[str, bytes]:
    """The content of every file by its path in the folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def differing(one: Path, other: Path) -> list[str]:
    """Paths of files that are not in both folders with the same bytes."""
    first, second = files_of(one), files_of(other)
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))


def main() -> int:
    """Build, compare, and say what differs."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        first = build(Path(one))
        found, count = differing(first, build(Path(other))), len(files_of(first))
    print(f"{count} files, {len(found)} of which differ between two builds", *found, sep="\n")
    return int(bool(found) or not count)


if __name__ == "__main__":
    sys.exit(main())
