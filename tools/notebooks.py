"""Execute the chapters in place and seal them: ``python tools/notebooks.py refresh [CHAPTER ...]``.

The seal is a fingerprint of all that a chapter's outputs come from: the library's code and weights, and the chapter's
own code cells. A test compares it, so that no figure goes stale (nbval does not compare pictures).
"""

from __future__ import annotations

import base64
import hashlib
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
# Figures of chapters that other pages show: file -> (chapter, name of the figure).
PICTURES = {ROOT / "images" / "digits_by_steps.png": ("10_steps_and_quality", "fig-digits-by-steps")}
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def chapters() -> list[Path]:
    """The notebooks of the book, in order."""
    return sorted((ROOT / "chapters").glob("*.ipynb"))


def library_fingerprint(library: Path = ROOT / "ddim_lib") -> str:
    """SHA-256 over the names and contents of the library's source files and weights."""
    digest = hashlib.sha256()
    for path in sorted(p for p in library.rglob("*") if p.suffix in (".py", ".safetensors")):
        digest.update(path.relative_to(library).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def code_fingerprint(notebook: NotebookNode) -> str:
    """SHA-256 over the sources of a notebook's code cells."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(sources).encode()).hexdigest()


def seal(notebook: NotebookNode) -> dict[str, str]:
    """The fingerprints that a freshly executed notebook carries as ``metadata.ddim_lib``."""
    return {"library": library_fingerprint(), "cells": code_fingerprint(notebook)}


def figure(notebook: NotebookNode, name: str) -> bytes:
    """The PNG of the cell whose figure is called ``name``."""
    for cell in notebook.cells:
        if cell.metadata.get("mystnb", {}).get("figure", {}).get("name") == name:
            pictures = [out.data["image/png"] for out in cell.outputs if "image/png" in out.get("data", {})]
            return base64.b64decode(pictures[0])
    raise ValueError(f"no cell has a figure called {name!r}")


def refresh(path: Path) -> None:
    """Execute one notebook and write it back with normal metadata, so that no change gives no difference."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, kernel_name="python3", record_timing=False, coalesce_streams=True, timeout=300)
    client.execute(cwd=str(path.parent))
    notebook.metadata = nbformat.from_dict(METADATA | {"ddim_lib": seal(notebook)})
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
    nbformat.write(notebook, path)
    for picture, (chapter, name) in PICTURES.items():
        if chapter == path.stem:
            picture.parent.mkdir(exist_ok=True)
            picture.write_bytes(figure(notebook, name))


def main(arguments: list[str]) -> int:
    """Refresh the named chapters, or all of them."""
    if arguments[:1] != ["refresh"]:
        print(__doc__, file=sys.stderr)
        return 2
    for path in [Path(name) for name in arguments[1:]] or chapters():
        print(f"executing {path.name}", flush=True)
        refresh(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
