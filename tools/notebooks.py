"""Execute the chapters in place and seal them: ``python tools/notebooks.py refresh [CHAPTER ...]``.

Their first cell is written here, since the address of the repository stands in it. Each figure is drawn a second time
for dark pages (``tools/darken.py``), into ``images/dark``.

The seal is a fingerprint of all that a chapter's outputs come from: the library's code and weights, and the chapter's
own code cells. A test compares it, so that no figure goes stale (nbval does not compare pictures).
"""

from __future__ import annotations

import base64
import hashlib
import os
import sys
from pathlib import Path

import nbformat
import yaml
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
DARK = ROOT / "images" / "dark"
# Figures of chapters that other pages show: file -> (chapter, name of the figure).
PICTURES = {ROOT / "images" / "digits_by_steps.png": ("10_steps_and_quality", "fig-digits-by-steps")}
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

LAUNCH = """\
# Opened alone, as on Colab, a notebook fetches the book and its library.
import importlib.util
from pathlib import Path

if not Path("../ddim_lib").is_dir():
    url = "{url}"
    if not Path("ddim-book").is_dir():
        !git clone --quiet --depth 1 {{url}} ddim-book
    %cd -q ddim-book/chapters
if importlib.util.find_spec("ddim_lib") is None:
    %pip install --quiet "..[proofs]"
    importlib.invalidate_caches()"""


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


def launch_cell(url: str) -> NotebookNode:
    """The code cell, hidden on the pages, that a notebook begins with; ``url`` is that of the repository."""
    return nbformat.v4.new_code_cell(LAUNCH.format(url=url), metadata={"tags": ["remove-cell"]})


def put_launch_cell(notebook: NotebookNode) -> None:
    """Make the first code cell of a notebook the present :func:`launch_cell`."""
    url = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    first = next(i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code")
    there = "remove-cell" in notebook.cells[first].metadata.get("tags", [])
    notebook.cells[first : first + there] = [launch_cell(url)]


def figure(notebook: NotebookNode, name: str) -> bytes:
    """The PNG of the cell whose figure is called ``name``."""
    for cell in notebook.cells:
        if cell.metadata.get("mystnb", {}).get("figure", {}).get("name") == name:
            pictures = [out.data["image/png"] for out in cell.outputs if "image/png" in out.get("data", {})]
            return base64.b64decode(pictures[0])
    raise ValueError(f"no cell has a figure called {name!r}")


def execute(notebook: NotebookNode, folder: Path) -> None:
    """Execute a notebook in a folder; its pictures get their dark twins as metadata."""
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        timeout=300,
        extra_arguments=["--IPKernelApp.extra_extensions=darken"],
    )
    paths = [str(ROOT / "tools"), *filter(None, [os.environ.get("PYTHONPATH")])]
    client.execute(cwd=str(folder), env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)})


def take_dark_twins(notebook: NotebookNode) -> dict[str, bytes]:
    """Remove the dark twins from a notebook's metadata: name of the figure -> PNG."""
    twins = {}
    for cell in notebook.cells:
        for out in cell.get("outputs", []):
            if "image/png" in out.get("data", {}):
                name = cell.metadata["mystnb"]["figure"]["name"]
                twins[name] = base64.b64decode(out.metadata.pop("image/png")["dark"])
    return twins


def write_pictures(chapter: str, notebook: NotebookNode, twins: dict[str, bytes]) -> None:
    """Write the dark twins of a chapter's figures, and those of the figures that other pages show."""
    DARK.mkdir(parents=True, exist_ok=True)
    for name, png in twins.items():
        (DARK / f"{name}.png").write_bytes(png)
    for picture, (source, name) in PICTURES.items():
        if source == chapter:
            picture.write_bytes(figure(notebook, name))
            (DARK / picture.name).write_bytes(twins[name])


def refresh(path: Path) -> None:
    """Execute one notebook and write it back with normal metadata, so that no change gives no difference."""
    notebook = nbformat.read(path, as_version=4)
    put_launch_cell(notebook)
    execute(notebook, path.parent)
    write_pictures(path.stem, notebook, take_dark_twins(notebook))
    notebook.metadata = nbformat.from_dict(METADATA | {"ddim_lib": seal(notebook)})
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
    nbformat.write(notebook, path)


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
