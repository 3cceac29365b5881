"""The comparison under benchmarks/ runs, and its figures follow from each other; sizes too small to tell of speed."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
EQUAL = ("book", "diffusers", "diffusers channels-last")
NEAREST = ("denoising-diffusion-pytorch",) if importlib.util.find_spec("denoising_diffusion_pytorch") else ()
NAMES = (*EQUAL, *NEAREST)

pytestmark = pytest.mark.skipif(
    not importlib.util.find_spec("diffusers"), reason="diffusers is not installed; `make diffusers` installs it"
)


def run_script(*options):
    command = [sys.executable, "benchmarks/unet.py", "--device", "cpu", "--configs", "tiny", *options]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))  # this checkout's library
    return subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "unet.json"
    run = run_script("--repeats", "3", "--batch-size", "3", "--out", str(out))
    assert run.returncode == 0, run.stderr
    return json.loads(out.read_text())


def test_the_file_says_how_it_was_made(result):
    assert result["command"].startswith("python benchmarks/unet.py --device cpu --configs tiny --repeats 3 ")
    assert result["versions"]["torch"] == torch.__version__
    assert result["versions"]["diffusers"]
    assert (result["hardware"].split()[1:], result["repeats"]) == (["CPU,", "1", "threads"], 3)
    assert (list(result["cells"]), result["cells"]["tiny"]["batch_size"]) == (["tiny"], 3)


def test_the_networks_agree_and_need_memory(result):
    cell = result["cells"]["tiny"]
    assert 0 < cell["largest_difference"] < 1e-4
    assert len({cell["parameters"][name] for name in EQUAL}) == 1
    assert all(
        cell["memory_bytes"][name] > 4 * 4 * cell["parameters"][name] for name in NAMES
    )  # gradients, Adam's moments


@pytest.mark.parametrize("task", ["training", "sampling"])
def test_the_figures_follow_from_the_seconds(result, task):
    cell = result["cells"]["tiny"]
    for name in NAMES:
        found, seconds = cell[task][name], cell[task][name]["seconds"]
        assert 0 < seconds["lower"] <= seconds["median"] <= seconds["upper"]
        assert found["images_per_second"] == pytest.approx(3 / seconds["median"])
        assert 0 < found["over_book"]["lower"] <= found["over_book"]["median"] <= found["over_book"]["upper"]
        per_second = found["flops"] / seconds["median"]
        assert found["share_of_peak"] == pytest.approx(per_second / cell["product_flops_per_second"])
        assert 0 < found["share_of_peak"] < 1.2
    assert cell[task]["book"]["over_book"] == {"median": 1, "lower": 1, "upper": 1}


def test_training_costs_three_evaluations(result):
    """Backward makes two products where forward makes one; only the first layer's input needs no gradient."""
    cell = result["cells"]["tiny"]
    for name in NAMES:
        assert 2.8 < cell["training"][name]["flops"] / cell["sampling"][name]["flops"] <= 3.2


def test_too_few_repeats_are_refused_by_name(tmp_path):
    run = run_script("--repeats", "1", "--out", str(tmp_path / "unet.json"))
    assert run.returncode == 2
    assert "--repeats must be at least 2, for quartiles, got 1" in run.stderr
