"""What ``import ddim_lib`` brings along: PyTorch and two small packages, so that it is quick."""

import subprocess
import sys

from test_style import ROOT

import ddim_lib

FOUND = """
import sys, torch
before = set(sys.modules)
import ddim_lib
import ddim_lib.plots
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(new - set(sys.stdlib_module_names)))
"""


def imported_by(code):
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_library_adds_two_packages_to_pytorch():
    """matplotlib, accelerate or SymPy would each take longer to import than all of the library."""
    assert imported_by(FOUND) == ["ddim_lib", "platformdirs", "safetensors"]


def test_a_package_that_the_library_imported_would_be_found():
    assert "matplotlib" in imported_by(FOUND.replace("import ddim_lib.plots", "import matplotlib"))


def test_every_public_name_is_there():
    assert [name for name in ddim_lib.__all__ if not hasattr(ddim_lib, name)] == []
    assert ddim_lib.plots.tile.__module__ == "ddim_lib.plots"
