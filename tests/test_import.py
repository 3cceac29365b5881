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


def test_every_public_name_is_there():
    assert [name for name in ddim_lib.__all__ if not hasattr(ddim_lib, name)] == []
    assert ddim_lib.plots.tile.__module__ == "ddim_lib.plots"
