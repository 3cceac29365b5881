"""Copy what single pages run into the built book's ``_static``: scripts of ``web/`` and packages that npm installed.

Scripts that lie in the source folder ``_static`` would be loaded by every page.
"""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

from pages import rewrite
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError

WEB = Path(__file__).resolve().parent.parent / "web"
RUNTIME = "node_modules/onnxruntime-web/dist/"
# File or folder in web/ -> its place in _static. What ends in .gz there is packed, so that a plain host will do.
FILES = {
    "search.js": "search.js",
    "explorer": "explorer",
    "../images/explorer.png": "explorer/explorer.png",
    "playground": "playground",
    RUNTIME + "ort.wasm.bundle.min.mjs": "playground/ort.wasm.bundle.min.mjs",
    RUNTIME + "ort.webgpu.bundle.min.mjs": "playground/ort.webgpu.bundle.min.mjs",
    RUNTIME + "ort-wasm-simd-threaded.wasm": "playground/ort-wasm-simd-threaded.wasm.gz",
    RUNTIME + "ort-wasm-simd-threaded.asyncify.wasm": "playground/ort-wasm-simd-threaded.asyncify.wasm.gz",
    "../_build/playground/mnist.onnx": "playground/mnist.onnx.gz",
    "../_build/playground/mnist.json": "playground/mnist.json",
}
# What the playground fetches on the reader's click, by where the network runs; the page says how much it is.
FETCHED = {
    "wasm": ["ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm.gz", "mnist.onnx.gz", "mnist.json"],
    "webgpu": ["ort.webgpu.bundle.min.mjs", "ort-wasm-simd-threaded.asyncify.wasm.gz", "mnist.onnx.gz", "mnist.json"],
}


def check_files(app: Sphinx, config: Config) -> None:
    """Raise ExtensionError, before anything is built, where a file or a package is missing."""
    missing = [name for name in ["node_modules/mathjax", *FILES] if not (WEB / name).exists()]
    if missing:
        raise ExtensionError(f"web/{missing[0]} is missing: `make book` fetches or makes it")


def copy_files(app: Sphinx) -> None:
    """Copy each file, before pages ask for it by its digest."""
    if app.builder.format != "html":
        return
    for name, place in FILES.items():
        source, target = WEB / name, Path(app.outdir) / "_static" / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.html"))
        elif target.suffix != ".gz":
            shutil.copyfile(source, target)
        elif not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
            target.write_bytes(gzip.compress(source.read_bytes(), 9, mtime=0))


def state_sizes(app: Sphinx, error: Exception | None) -> None:
    """Write into the playground's page how many bytes it fetches."""
    if error or app.builder.format != "html":
        return
    folder = Path(app.outdir) / "_static" / "playground"
    sizes = {place: sum((folder / name).stat().st_size for name in names) for place, names in FETCHED.items()}
    rewrite(Path(app.outdir), lambda page, name: page.replace("PLAYGROUND_BYTES", json.dumps(sizes)))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("config-inited", check_files, priority=100)
    app.connect("builder-inited", copy_files)
    app.connect("build-finished", state_sizes)
    return {"parallel_read_safe": True}
