"""Copy what single pages run into the built book's ``_static``: scripts of ``web/`` and packages that npm installed.

Scripts that lie in the source folder ``_static`` would be loaded by every page.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

WEB = Path(__file__).resolve().parent.parent / "web"
# File or folder in web/ -> its place in _static.
FILES: dict[str, str] = {}


def copy_files(app: Sphinx, error: Exception | None) -> None:
    """Copy each file; raises ExtensionError naming the first that is not there."""
    if error or app.builder.format != "html":
        return
    for name, place in FILES.items():
        source, target = WEB / name, Path(app.outdir) / "_static" / place
        if not source.exists():
            raise ExtensionError(f"{source} is missing: `make book` installs it")
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, target)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("build-finished", copy_files)
    return {"parallel_read_safe": True}
