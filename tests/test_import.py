"""What ``import ddim_lib`` brings along: two small packages beside PyTorch, so that it is quick."""

import subprocess
import sys

from test_style import ROOT

import ddim_lib

SCRIPT = """
import sys, torch
known = set(sys.modules)
for line in ("import ddim_lib", "import matplotlib"):
    exec(line)
    new = {name.partition(".")[0] for name in set(sys.modules) - known}
    print(*sorted(new - set(sys.stdlib_module_names)))
"""


def test_the_library_adds_two_packages_to_pytorch():
    """matplotlib, accelerate or SymPy would each take longer to import than all of the library."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=True)
    library, with_another = (line.split() for line in done.stdout.splitlines())
    assert library == ["ddim_lib", "platformdirs", "safetensors"]
    assert {"matplotlib", *library} < set(with_another)  # so one more package would have been seen


LOADING = """
import sys
from ddim_lib import load_pretrained
from ddim_lib.classifier import load_classifier
load_pretrained("mnist"), load_classifier("mnist")
print("sympy" in sys.modules)
import sympy
print("sympy" in sys.modules)
"""


def test_loading_a_network_imports_no_sympy():
    """PyTorch's own way from the meta device to memory does, half a second."""
    done = subprocess.run([sys.executable, "-c", LOADING], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_every_public_name_is_there():
    assert [name for name in ddim_lib.__all__ if not hasattr(ddim_lib, name)] == []
    assert ddim_lib.plots.tile.__module__ == "ddim_lib.plots"
