"""Change the built pages as text: what several extensions do when a build has finished."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def rewrite(out: Path, change: Callable[[str, str], str]) -> None:
    """Give the text and the file name of each page below ``out`` to ``change``, and write what comes back."""
    for path in sorted(out.rglob("*.html")):
        old = path.read_text(encoding="utf-8")
        if (new := change(old, path.name)) != old:
            path.write_text(new, encoding="utf-8")
